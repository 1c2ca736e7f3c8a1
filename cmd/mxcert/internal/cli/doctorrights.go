package cli

import (
	"context"
	"os"
	"slices"
	"strings"
)

// lookAtRights finds out whether the unprivileged service may reload the configured units, where there is one: the state
// belongs to it then. Whether polkit would say so cannot be asked for another user; the rule that says it can be read.
func (d *doctor) lookAtRights(context.Context) []doctorCheck {
	units := configuredUnits(d.config)
	if serviceGroup() < 0 || len(units) == 0 || d.configFile != defaultConfig {
		return nil // it runs as root, or not as the service of this host
	}
	text, err := os.ReadFile(polkitRules)
	var lacking []string
	for _, unit := range units {
		if err != nil || !strings.Contains(string(text), `"`+unit+`"`) {
			lacking = append(lacking, unit)
		}
	}
	if len(lacking) > 0 {
		return []doctorCheck{bad("the service may not reload %s: %s does not allow it", strings.Join(lacking, ", "), polkitRules).because("mxcert polkit --install")}
	}
	if string(text) != polkitRule(slices.Clone(units)) {
		return []doctorCheck{doubtful("%s is not what mxcert would write: it allows other units too, or was edited", polkitRules).because("mxcert polkit --install")}
	}
	return []doctorCheck{well("the service may reload %s", strings.Join(units, ", "))}
}

package cli

import (
	"context"
	"os"
	"strings"

	"mxcert/hooks/unit"
)

// lookAtRights finds out whether the unprivileged service may reload the configured units, where there is one: the state
// belongs to it then. Whether polkit would say so cannot be asked for another user; the rule that says it can be read.
func (d *doctor) lookAtRights(context.Context) []doctorCheck {
	units := configuredUnits(d.config)
	if serviceGroup() < 0 || len(units) == 0 || d.configFile != defaultConfig {
		return nil // it runs as root, or not as the service of this host
	}
	text, err := os.ReadFile(unit.PolkitFile)
	var lacking []string
	for _, name := range units {
		if err != nil || !strings.Contains(string(text), `"`+name+`"`) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) > 0 {
		return []doctorCheck{bad("the service may not reload %s: %s does not allow it", strings.Join(lacking, ", "), unit.PolkitFile).because("mxcert polkit --install")}
	}
	if string(text) != unit.PolkitRule(units) {
		return []doctorCheck{doubtful("%s is not what mxcert would write: it allows other units too, or was edited", unit.PolkitFile).because("mxcert polkit --install")}
	}
	return []doctorCheck{well("the service may reload %s", strings.Join(units, ", "))}
}

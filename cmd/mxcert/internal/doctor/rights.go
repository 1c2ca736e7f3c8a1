package doctor

import (
	"context"
	"os"
	"os/user"
	"strings"

	"mxcert/acme/finding"
	"mxcert/hooks/unit"
)

// rights checks that the unprivileged service may reload the configured units, if this host has such a service. Doctor cannot
// ask polkit for another user, so it reads the rule.
func (d *Doctor) rights(context.Context) []finding.Finding {
	units := d.Runner.Host.Units()
	if _, err := user.LookupGroup(unit.ServiceUser); err != nil || len(units) == 0 || !d.IsService {
		return nil // it runs as root, or this is not the host's service
	}
	text, err := os.ReadFile(unit.PolkitFile)
	var lacking []string
	for _, name := range unit.Names(units) {
		if err != nil || !strings.Contains(string(text), `"`+name+`"`) {
			lacking = append(lacking, name)
		}
	}
	const hint = "mxcert polkit --install"
	if len(lacking) > 0 {
		return []finding.Finding{bad("the service may not reload %s: %s does not allow it", strings.Join(lacking, ", "), unit.PolkitFile).Next(hint)}
	}
	if string(text) != unit.PolkitRule(units) {
		return []finding.Finding{doubtful("%s is not what mxcert would write: it allows other units too, or was edited", unit.PolkitFile).Next(hint)}
	}
	return []finding.Finding{well("the service may reload %s", strings.Join(units, ", "))}
}

package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strings"

	"mxcert/acme/finding"
	"mxcert/hooks/unit"
)

// Rule is the polkit rule of this host.
type Rule struct {
	text string
	err  error
}

// ReadRule reads the rule. On most hosts only root may do that.
func ReadRule() Rule {
	text, err := os.ReadFile(unit.PolkitFile)
	return Rule{string(text), err}
}

// rights checks that the unprivileged service may reload the configured units, if this host has such a service. Doctor cannot
// ask polkit for another user, so it looks at the rule.
func (d *Doctor) rights(context.Context) []finding.Finding {
	units := d.Runner.Host.Units()
	if _, err := user.LookupGroup(unit.ServiceUser); err != nil || len(units) == 0 || !d.IsService {
		return nil // it runs as root, or this is not the host's service
	}
	if errors.Is(d.Polkit.err, fs.ErrPermission) {
		return []finding.Finding{doubtful("this user may not read %s, so it is open whether the service may reload %s", unit.PolkitFile, strings.Join(units, ", ")).Next("run doctor as root")}
	}
	var lacking []string
	for _, name := range unit.Names(units) {
		if d.Polkit.err != nil || !strings.Contains(d.Polkit.text, `"`+name+`"`) {
			lacking = append(lacking, name)
		}
	}
	const hint = "mxcert polkit --install"
	if len(lacking) > 0 {
		return []finding.Finding{bad("the service may not reload %s: %s does not allow it", strings.Join(lacking, ", "), unit.PolkitFile).Next(hint)}
	}
	if d.Polkit.text != unit.PolkitRule(unit.Names(units)) {
		return []finding.Finding{doubtful("%s is not what mxcert would write: it allows other units too, or was edited", unit.PolkitFile).Next(hint)}
	}
	return []finding.Finding{well("the service may reload %s", strings.Join(units, ", "))}
}

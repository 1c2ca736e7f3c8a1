package unit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const (
	// ServiceUser is the user of mxcert.service, and its group.
	ServiceUser = "mxcert"
	// PolkitFile is where the rule for the service belongs. polkitd reads it at once (polkit(8)).
	PolkitFile = "/etc/polkit-1/rules.d/50-mxcert.rules"
)

// On Debian 12, postfix.service is /bin/true, and the instance is what runs. On Debian 13, postfix.service itself runs, and conflicts with the
// instance.
const postfix, postfixInstance = "postfix.service", "postfix@-.service"

// Names returns the units that a reload of the given ones may reload, sorted and without duplicates. It adds the instance of
// postfix.service, because that may be what runs.
func Names(units []string) []string {
	names := append([]string{}, units...)
	if slices.Contains(names, postfix) {
		names = append(names, postfixInstance)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// PolkitRule returns the rule that allows the service to reload exactly these units, and nothing else.
func PolkitRule(units []string) string {
	list, err := json.Marshal(units)
	if units == nil || err != nil { // strings always marshal
		list = []byte("[]")
	}
	return fmt.Sprintf(`// Written by mxcert polkit --install from the configuration: the units that the service may reload.
polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == %q && action.lookup("verb") == "reload" &&
        %s.indexOf(action.lookup("unit")) >= 0) {
        return polkit.Result.YES;
    }
});
`, ServiceUser, strings.ReplaceAll(string(list), `","`, `", "`))
}

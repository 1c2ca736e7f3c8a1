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
	// PolkitFile is where the rule for the service belongs; polkitd reads it at once (polkit(8)).
	PolkitFile = "/etc/polkit-1/rules.d/50-mxcert.rules"
)

// On Debian, postfix.service only runs /bin/true; the instance is the server.
const postfix, postfixInstance = "postfix.service", "postfix@-.service"

// Names returns the units whose reload the given ones may lead to, sorted, each once: postfix.service may stand for its
// instance.
func Names(units []string) []string {
	names := append([]string{}, units...)
	if slices.Contains(names, postfix) {
		names = append(names, postfixInstance)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// PolkitRule returns the rule that lets the service use the verb reload on exactly these units, and nothing else.
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

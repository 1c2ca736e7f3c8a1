package resolve

import (
	"strings"
	"testing"
)

// People copy hints into a shell, and a name from DNS may contain what a shell obeys.
func TestHintsAreSafeForAShell(t *testing.T) {
	t.Parallel()
	const name = "`reboot`|$x.example.org"
	for _, kind := range []string{unusable, unreached, bogus} {
		e := &Error{Name: name, Type: "A", Server: "127.0.0.1:53", kind: kind}
		if hint := e.Hint(); !strings.Contains(hint, "'"+name+"'") {
			t.Errorf("%q: %s", kind, hint)
		}
	}
}

package verdict

import (
	"net/netip"
	"strings"
	"testing"
)

// People copy the commands of findings into a shell, and the name of an MX host may contain what a shell obeys.
func TestCommandsAreSafeForAShell(t *testing.T) {
	t.Parallel()
	const name = "`reboot`.example.org"
	j := &judge{}
	j.Host, j.Address, j.Port = name, netip.MustParseAddr("192.0.2.1"), 25
	_ = j.odd(name, "it is odd")
	_ = j.oddTLSA(tlsaCheck{base: name}, name, "it is odd")
	for _, f := range j.findings {
		if all, quoted := strings.Count(f.Hint, name), strings.Count(f.Hint, "'"+name+"'"); all < 2 || all != quoted {
			t.Errorf("%d names, %d quoted: %s", all, quoted, f.Hint)
		}
	}
}

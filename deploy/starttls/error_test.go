package starttls

import (
	"strings"
	"testing"
)

// People copy the command into a shell, and the name of an MX host may contain what a shell obeys.
func TestCommandIsSafeForAShell(t *testing.T) {
	t.Parallel()
	e := &Error{Address: "192.0.2.1:25", ServerName: "`reboot`.example.org", kind: KindNotJudged, protocol: SMTP}
	if hint := e.Hint(); !strings.HasSuffix(hint, "-servername '`reboot`.example.org'") {
		t.Error(hint)
	}
}

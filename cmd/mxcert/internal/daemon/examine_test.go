package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/lab"
)

// A command learns what the daemon finds with its secrets, and no secret. The daemon makes no pass for that.
func TestExamine(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	examine := func(names ...string) *Seen {
		t.Helper()
		seen, err := Examine(t.Context(), h.store(), testRelease, h.wants().Fingerprint, names, false)
		h.check(err)
		return seen
	}
	if seen := examine(); len(seen.Secrets) != 0 || len(seen.Providers["mx"]) != 1 || seen.Providers["mx"][0].Severity != finding.OK || !strings.Contains(seen.Providers["mx"][0].Message, "rfc2136") {
		t.Errorf("all is well: %+v", seen)
	}
	before := h.World.Serial(lab.Zone)
	seen, err := Examine(t.Context(), h.store(), testRelease, h.wants().Fingerprint, nil, true)
	if h.check(err); len(seen.Providers["mx"]) != 2 || seen.Providers["mx"][1].ID != "online" || seen.Providers["mx"][1].Severity != finding.OK || h.World.Serial(lab.Zone) < before+2 {
		t.Errorf("online, serial %d after %d: %+v", h.World.Serial(lab.Zone), before, seen)
	}
	h.check(os.WriteFile(h.Path("credentials", "tsig"), []byte(strings.Repeat("A", 43)+"="), 0o600))
	if seen := examine("mx"); len(seen.Secrets) != 0 || finding.Worst(seen.Providers["mx"]) != finding.Error {
		t.Errorf("a wrong secret: %+v", seen)
	}
	h.check(os.Remove(h.Path("credentials", "tsig")))
	if seen := examine(); len(seen.Secrets) != 1 || !strings.Contains(seen.Secrets[0].Message, "mxcert.yaml:") || finding.Worst(seen.Providers["mx"]) != finding.Error {
		t.Errorf("no secret: %+v", seen)
	}
	if h.placed() != 1 {
		t.Errorf("%d orders", h.placed())
	}
	if _, err := Examine(t.Context(), h.store(), "another", h.wants().Fingerprint, nil, false); !errors.Is(err, ErrNone) {
		t.Errorf("a daemon of another version is asked: %v", err)
	}
	if _, err := Examine(t.Context(), h.store(), testRelease, h.wants().Fingerprint, []string{"nothere"}, false); err == nil {
		t.Error("a name that is not configured")
	}
	d.stop()
	if _, err := Examine(t.Context(), h.store(), testRelease, h.wants().Fingerprint, nil, false); !errors.Is(err, ErrNone) {
		t.Errorf("without a daemon: %v", err)
	}
}

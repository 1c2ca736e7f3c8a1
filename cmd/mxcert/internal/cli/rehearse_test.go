package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// A rehearsal orders for real at the staging service, and leaves accounts, certificates, files and DNS as they were. It is
// not parallel, because it names the lab's CA as the staging service.
func TestRehearsal(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	directory := h.CA.DirectoryURL()
	h.edit(directory, "https://ca.example/directory")
	rehearse := func(set func(*app)) result {
		var stdout, stderr bytes.Buffer
		a := &app{version: testRelease, stdout: &console{out: &stdout}, stderr: &console{out: &stderr}, configFile: h.config, progress: "plain"}
		set(a)
		config, err := a.load()
		h.check(err)
		err = a.rehearseAt(t.Context(), config, nil, directory)
		if err != nil {
			a.sayFailure(err)
		}
		return result{code: report.CodeOf(err), stdout: stdout.String(), stderr: stderr.String()}
	}
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)

	got := rehearse(func(*app) {})
	if got.code != report.CodeOK || !strings.Contains(got.stdout, "1 certificate would be issued; nothing was stored or deployed") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	got = rehearse(func(a *app) { a.json = true })
	var r rehearsalReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeOK || r.Changed || len(r.Rehearsed) != 1 || r.Rehearsed[0] != "mx" {
		t.Errorf("exit code %d (%v):\n%s", got.code, err, got.stdout)
	}
	if got = rehearse(func(a *app) { a.quiet = true }); got.code != report.CodeOK || got.stdout+got.stderr != "" {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	if n := h.CA.Count(ca.Certificate); n != 3 {
		t.Errorf("%d certificates were issued", n)
	}
	h.CA.SetWrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	})
	if got = rehearse(func(a *app) { a.json = true }); got.code != report.CodeTemporary || !json.Valid([]byte(got.stdout)) {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	for _, path := range []string{"state/accounts", "state/lineages", "tls/mx.crt", "tls/mx.key"} {
		if entries, err := os.ReadDir(h.Path(path)); !os.IsNotExist(err) && len(entries) > 0 || strings.HasPrefix(path, "tls") && !os.IsNotExist(err) {
			t.Errorf("%s was made", path)
		}
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if got := h.run("renew", "--staging"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "knows no staging service of ca.example") {
		t.Errorf("a CA without a staging service: exit code %d\n%s", got.code, got.stderr)
	}
	if left := h.World.Challenges(); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
}

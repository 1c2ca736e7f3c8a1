package pass

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// A newer certificate is in service than any that is stored: a backup was restored, or a file of the newest generation was damaged. The next
// pass orders one, and does not wait until the stored one is due.
func TestLostGeneration(t *testing.T) {
	t.Parallel()
	for what, lose := range map[string]func(h *host, backup string){
		"an old backup is restored": func(h *host, backup string) {
			h.check(os.RemoveAll(h.Path("state")))
			h.check(os.CopyFS(h.Path("state"), os.DirFS(backup)))
		},
		"the chain of the newest is damaged": func(h *host, _ string) { h.check(os.WriteFile(newest(h, "fullchain.pem"), []byte("damaged"), 0o600)) },
		"the key of the newest is lost":      func(h *host, _ string) { h.check(os.Remove(newest(h, "privkey.pem"))) },
		"the newest is lost":                 func(h *host, _ string) { h.check(os.RemoveAll(newest(h, ""))) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			h.pass(report.CodeOK, renew)
			backup := filepath.Join(t.TempDir(), "backup")
			h.check(os.CopyFS(backup, os.DirFS(h.Path("state"))))
			time.Sleep(1100 * time.Millisecond) // certificates say when they end in seconds
			h.pass(report.CodeOK, atOnce)
			old := h.served()
			lose(h, backup)
			dry := h.pass(report.CodeOK, dryRun)
			if text := strings.Join(dry.Plan, "\n"); !strings.Contains(text, "order: ec256 certificate") || !strings.Contains(text, becauseLost) {
				t.Errorf("a dry run: %q, %+v", text, dry.Error)
			}
			time.Sleep(1100 * time.Millisecond)
			c := h.pass(report.CodeOK, renew)
			if c.Stage != report.Served || h.served() == old || h.served() != c.Keys[0].Serial {
				t.Errorf("%s is served, it was %s: %+v", h.served(), old, c)
			}
			if c := h.pass(report.CodeOK, renew); c.Changed {
				t.Errorf("the next pass: %+v", c)
			}
		})
	}
}

// If it does not help, no other order follows for a week: something else puts newer certificates in service.
func TestLostAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	backup := filepath.Join(t.TempDir(), "backup")
	for _, want := range []report.Code{report.CodeOK, report.CodeNotInService} {
		h.check(os.RemoveAll(backup))
		h.check(os.CopyFS(backup, os.DirFS(h.Path("state"))))
		time.Sleep(1100 * time.Millisecond)
		h.pass(report.CodeOK, atOnce)
		h.check(os.RemoveAll(h.Path("state")))
		h.check(os.CopyFS(h.Path("state"), os.DirFS(backup)))
		placed := h.placed()
		time.Sleep(1100 * time.Millisecond)
		c := h.pass(want, renew)
		if ordered := h.placed() - placed; ordered != map[report.Code]int{report.CodeOK: 1, report.CodeNotInService: 0}[want] {
			t.Errorf("%d orders: %+v", ordered, c)
		}
	}
}

// newest returns a file of the current generation.
func newest(h *host, name string) string {
	h.t.Helper()
	lineage := h.store().Lineage("mx")
	record, _, err := lineage.Look()
	h.check(err)
	return filepath.Join(lineage.Directory(record.Slot("ec256").Current), name)
}

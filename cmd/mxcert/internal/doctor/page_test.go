package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// TestPage: doctor finds a page that nobody can write, and one that a running daemon does not write.
func TestPage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "www", "index.html")
	d := &Doctor{Runner: &pass.Runner{Host: &wanted.Host{Page: path}}}
	testWritten(t, d, path, d.page)
}

func TestTextfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node-exporter", "mxcert.prom")
	d := &Doctor{Runner: &pass.Runner{Host: &wanted.Host{Metrics: wanted.Metrics{Textfile: path}}}}
	testWritten(t, d, path, d.textfile)
}

func testWritten(t *testing.T, d *Doctor, path string, look func(context.Context) []finding.Finding) {
	t.Helper()
	check := func(severity finding.Severity, words string) {
		t.Helper()
		found := look(t.Context())
		if len(found) != 1 || found[0].Severity != severity || !strings.Contains(found[0].Message, words) {
			t.Errorf("%+v, want %s: %s", found, severity, words)
		}
	}
	check(finding.Warning, "cannot be written")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	check(finding.OK, "can be written")
	long := time.Now().Add(-24 * time.Hour)
	d.Daemon = &report.Daemon{Started: long, ConfigLoaded: long}
	check(finding.Warning, "has not written the ")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(finding.OK, "was written at")
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	check(finding.Warning, "is of ")
}

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

var (
	labDefault    lab.Options
	configDefault lab.ConfigOptions
)

func (h *host) put(name, text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path(name), []byte(text), 0o600))
}

func TestForeignStateDirectory(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	dir := t.TempDir()
	h.check(os.WriteFile(filepath.Join(dir, "other"), nil, 0o644))
	h.check(os.Chmod(dir, 0o755))
	h.edit(h.Path("state"), dir)
	if got := h.run("renew"); got.code != report.CodeFailed || !strings.Contains(got.stderr, "not mxcert's") {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is now %v (%v)", info.Mode(), err)
	}
}

// Files of roots that cannot be read are faults of the configuration.
func TestMissingRootsFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.check(os.Remove(h.Path("roots.pem")))
	for command, code := range map[string]report.Code{"check": report.CodeFault, "renew": report.CodeConfig, "run": report.CodeConfig} {
		if got := h.run(command); got.code != code || !strings.Contains(got.stderr, "acme.roots_file") || !strings.Contains(got.stderr, "mxcert.yaml:") {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

// check finds a misspelt variable of our own provider, and says which secrets cannot be read, without calling it a fault.
func TestCheckLooksAtTheProvider(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	h.check(os.Remove(h.Path("credentials", "tsig")))
	if got := h.run("check"); got.code != report.CodeOK || !strings.Contains(got.stderr, "warning") || !strings.Contains(got.stderr, "dns.env.DNSUPDATE_TSIG_SECRET") {
		t.Errorf("unreadable secret: %+v", got)
	}
	h.edit("DNSUPDATE_TSIG_KEY:", "DNSUPDATE_TSIGKEY:")
	if got := h.run("check"); got.code != report.CodeFault || !strings.Contains(got.stderr, "DNSUPDATE_TSIGKEY") || !strings.Contains(got.stderr, "mxcert.yaml:") {
		t.Errorf("misspelt variable: %+v", got)
	}
}

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/journal"
	"mxcert/packaging/e2e/mailhost"
)

// deb builds the Debian package from a copy of the tree in a directory of its own.
func deb(t *testing.T, version string) string {
	t.Helper()
	path, err := mailhost.BuildDeb(t.Context(), t.TempDir(), version)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The package is the same byte for byte wherever it is built, and lintian has nothing to say.
func TestPackageIsReproducible(t *testing.T) {
	mailhost.Require(t)
	first, second := deb(t, "1.0"), deb(t, "1.0")
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(a) != sha256.Sum256(b) || bytes.Equal(a[:100], make([]byte, 100)) {
		t.Errorf("two builds differ: %d and %d bytes", len(a), len(b))
	}
	figure(t, "package: %.1f MB", float64(len(a))/1e6)
	out, err := exec.CommandContext(t.Context(), "lintian", "--allow-root", "--fail-on", "error,warning,info", first).CombinedOutput()
	if err != nil {
		t.Errorf("lintian: %v\n%s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(filepath.Dir(second), "root-mxcert-amd64/usr/share/man/man*/*.gz"))
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d manual pages, %v", len(pages), err)
	}
	for _, page := range pages {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `zcat "$1" >"$1.text" && mandoc -T lint -W warning "$1.text"`, "sh", page).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s", filepath.Base(page), err, out)
		}
	}
}

// A host's life with the package: install, first certificate, upgrade under the running service, boots, remove, purge.
func TestPackageOnTheHost(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	s.dpkg(deb(t, "1.0"), "-i")
	if r := s.mxcert("version"); !strings.Contains(r.Stdout, "1.0") {
		t.Errorf("version: %s", r.Stdout)
	}
	for path, want := range map[string]string{
		"/var/lib/mxcert-keys": "mxcert:mxcert-keys 2750", "/etc/mxcert/credentials": "root:mxcert 750", "/etc/mxcert/mxcert.yaml.example": "root:mxcert 640",
		"/usr/bin/mxcert": "root:root 755", "/run/mxcert-helpers/install.sock": "root:mxcert 660", "/run/mxcert-helpers/hook.sock": "root:mxcert 660",
	} {
		if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if state := s.property("ActiveState"); state != "inactive" {
		t.Errorf("without a configuration the service is %s", state)
	}
	if n := s.explained(); n != len(journal.IDs()) { // dpkg has told systemd about the file
		t.Errorf("journalctl explains %d events of %d", n, len(journal.IDs()))
	}
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(hostConfig), 0o644))
	s.check(s.Put("/etc/mxcert/credentials/tsig", []byte(s.TSIGSecret+"\n"), 0o644))
	refused := s.mxcert("doctor", "--json")
	command := regexp.MustCompile(`chown root:mxcert [^"; ]+; chmod 0640 [^"; ]+`).FindString(refused.Stdout + refused.Stderr)
	if refused.Code == 0 || command == "" {
		t.Errorf("a secret that everybody can read: exit code %d, and no command", refused.Code)
	}
	must(t, s.Host, "sh", "-ec", command) // the service can read it now
	must(t, s.Host, "mxcert", "polkit", "--install")
	must(t, s.Host, "systemctl", "start", "mxcert")
	first := s.servedByAuthority()
	pid := s.property("MainPID")

	s.dpkg(deb(t, "1.1"), "-i")
	if now := s.property("MainPID"); now == pid || s.property("ActiveState") != "active" {
		t.Errorf("after the upgrade: process %s was %s, %s", now, pid, s.property("ActiveState"))
	}
	if r := s.mxcert("renew"); r.Code != 0 || s.servedByAuthority() != first {
		t.Errorf("renew after the upgrade: %d", r.Code)
	}
	s.bootsAgain("stopped and booted", s.Reboot, first)
	s.bootsAgain("after a power cut", s.Crash, first)

	must(t, s.Host, "dpkg", "--remove", "mxcert")
	if n := s.explained(); n != 0 {
		t.Errorf("after the removal journalctl explains %d events", n)
	}
	must(t, s.Host, "test", "-d", "/var/lib/mxcert/lineages/mx")
	must(t, s.Host, "test", "-f", "/etc/mxcert/mxcert.yaml")
	if now := s.servedByAuthority(); now != first {
		t.Errorf("%s is served after the removal", now)
	}
	if r, err := s.Run(context.Background(), "systemctl", "is-active", "mxcert.service", "mxcert-install.socket", "mxcert-hook.socket"); err != nil || strings.Contains("\n"+r.Stdout, "\nactive") {
		t.Errorf("after the removal: %s %v", r.Stdout, err)
	}
	must(t, s.Host, "dpkg", "-i", "/root/mxcert.deb")
	for _, unit := range serviceUnits {
		if got := strings.TrimSpace(must(t, s.Host, "systemctl", "is-enabled", unit)); got != "enabled" {
			t.Errorf("after a removal and an installation %s is %s", unit, got)
		}
	}
	must(t, s.Host, "systemctl", "start", "mxcert")
	must(t, s.Host, "dpkg", "--purge", "mxcert")
	for _, path := range []string{"/run/mxcert-helpers", "/var/lib/mxcert", "/var/lib/mxcert-install", "/etc/mxcert/credentials", "/etc/mxcert/mxcert.yaml", "/etc/polkit-1/rules.d/50-mxcert.rules", "/usr/bin/mxcert"} {
		if r, err := s.Run(context.Background(), "test", "-e", path); err != nil || r.Code == 0 {
			t.Errorf("%s is left after the purge", path)
		}
	}
	if now := s.servedByAuthority(); now != first {
		t.Errorf("%s is served after the purge", now)
	}
}

// serviceUnits are the units that the package enables.
var serviceUnits = []string{"mxcert.service", "mxcert-install.socket", "mxcert-hook.socket"}

// bootsAgain boots the host once more: the service comes up by itself, the certificate stays in service, nothing is ordered.
func (s *story) bootsAgain(how string, boot func(context.Context) error, serial string) {
	s.t.Helper()
	for _, unit := range serviceUnits {
		if got := strings.TrimSpace(must(s.t, s.Host, "systemctl", "is-enabled", unit)); got != "enabled" {
			s.t.Errorf("%s is %s", unit, got)
		}
	}
	roots, err := s.Get(mailhost.RootsFile)
	s.check(err)
	s.check(boot(s.t.Context()))
	began := time.Now()
	within(s.t, 60*time.Second, "the service is active", func() bool { return s.property("ActiveState") == "active" })
	if now := s.servedByAuthority(); now != serial {
		s.t.Errorf("%s: %s is served, want %s", how, now, serial)
	}
	// The authority comes up after the service, and is a new one: that must not be a reason to order.
	s.check(s.StartPebble(s.t.Context(), 90*24*time.Hour))
	s.check(s.Put(mailhost.RootsFile, roots, 0o644))
	if r := s.mxcert("renew"); r.Code != 0 || !strings.Contains(r.Stdout, "served") {
		s.t.Errorf("%s: renew exits with %d:\n%s", how, r.Code, r.Stderr)
	}
	if now := s.servedByAuthority(); now != serial || s.orders() != 0 {
		s.t.Errorf("%s: %d orders, %s is served, want %s", how, s.orders(), now, serial)
	}
	if s.property("NRestarts") != "0" || s.property("Result") != "success" {
		s.t.Errorf("%s: the service was restarted %s times, %s", how, s.property("NRestarts"), s.property("Result"))
	}
	if started := s.entries("-b", "-u", "mxcert", "MESSAGE_ID="+journal.IDs()[journal.Started]); len(started) != 1 || started[0]["MXCERT_VERSION"] == "" {
		s.t.Errorf("%s: the journal has %d starts", how, len(started))
	}
	for _, e := range s.entries("-b", "-u", "mxcert") {
		if e["PRIORITY"] <= "3" || e["MESSAGE_ID"] == journal.IDs()[journal.Served] || e["MESSAGE_ID"] == journal.IDs()[journal.Restored] {
			s.t.Errorf("%s: the service's journal: %s", how, e["MESSAGE"])
		}
	}
	figure(s.t, "%s: looked at everything %.1f s after the boot", how, time.Since(began).Seconds())
}

// dpkg installs a package file.
func (s *story) dpkg(file string, args ...string) {
	s.t.Helper()
	text, err := os.ReadFile(file)
	s.check(err)
	s.check(s.Put("/root/mxcert.deb", text, 0o644))
	must(s.t, s.Host, append(append([]string{"dpkg"}, args...), "/root/mxcert.deb")...)
}

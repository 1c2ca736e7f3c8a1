package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/journal"
	"mxcert/packaging/e2e/mailhost"
)

// rpms builds the package of RPM systems, a newer one, and one that takes its place in one transaction, as `dnf swap` does. Only
// the first is linked: to link mxcert-full takes minutes.
func rpms(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	build := exec.CommandContext(t.Context(), "sh", "-ec", `mkdir "$1/tree"; (cd ../..; tar -c --exclude=./.git --exclude=./bin --exclude=./dist .) | tar -x -C "$1/tree"; cd "$1/tree"
		DIST=$1 VERSION=1.0 sh packaging/nfpm/build.sh rpm
		sed "s|\${ROOT}|$1/root-mxcert-amd64|; s|\${MTIME}|2026-01-01T00:00:00Z|" packaging/nfpm/nfpm.yaml >new.yaml
		(cat new.yaml; echo 'provides: [mxcert]'; echo 'replaces: [mxcert]') >full.yaml
		nfpm=$(sed -n 's/^NFPM=//p' packaging/nfpm/build.sh)
		NAME=mxcert VERSION=1.1 go run "$nfpm" pkg -p rpm -f new.yaml -t "$1/new.rpm"
		NAME=mxcert-full VERSION=1.1 go run "$nfpm" pkg -p rpm -f full.yaml -t "$1/full.rpm"
		mv "$1"/mxcert-1.0-1.*.rpm "$1/old.rpm"`, "sh", dir)
	build.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000", "ARCH=amd64", "VARIANT=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// bringRPM installs Debian's rpm in the host, which has no network: this machine fetches the packages.
func (s *story) bringRPM() {
	s.t.Helper()
	dir := s.t.TempDir()
	s.check(os.WriteFile(filepath.Join(dir, "status"), []byte(must(s.t, s.Host, "cat", "/var/lib/dpkg/status")), 0o600))
	fetch := exec.CommandContext(s.t.Context(), "sh", "-ec", `cd "$1"; mkdir -p partial; apt-get -y -qq --no-install-recommends --download-only -o Dir::State::status="$1/status" \
		-o Dir::Cache::archives="$1" -o Debug::NoLocking=1 -o APT::Sandbox::User=root install rpm`, "sh", dir)
	if out, err := fetch.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	s.check(err)
	for _, file := range debs {
		text, err := os.ReadFile(file)
		s.check(err)
		s.check(s.Put("/root/rpm/"+filepath.Base(file), text, 0o644))
	}
	must(s.t, s.Host, "sh", "-ec", "dpkg -i /root/rpm/*.deb; rpm --initdb")
}

// The package of RPM systems, installed, upgraded, exchanged and erased by rpm on Debian: there is no root tree of RHEL here. On
// Debian 12, because this machine's packages of rpm fit it.
func TestRPM(t *testing.T) {
	t.Parallel()
	if mailhost.DefaultRelease() != mailhost.Debian12 {
		t.Skip("the rpm is the same; Debian 12 has the rpm that this machine can fetch")
	}
	s := begin(t, options{bare: true})
	dir := rpms(t)
	s.bringRPM()
	rpm := func(args string, file string) {
		t.Helper()
		if file != "" {
			text, err := os.ReadFile(filepath.Join(dir, file))
			s.check(err)
			s.check(s.Put("/root/"+file, text, 0o644))
			args += " --nodeps /root/" + file
		}
		r, err := s.Run(t.Context(), "sh", "-c", "rpm --force-debian "+args)
		if s.check(err); r.Code != 0 || strings.Contains(r.Stderr, "scriptlet failed") {
			t.Fatalf("rpm %s: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	rpm("-i", "old.rpm")
	if n := s.explained(); n != len(journal.IDs()) {
		t.Errorf("journalctl explains %d events after the installation, want %d", n, len(journal.IDs()))
	}
	for path, want := range map[string]string{
		"/var/lib/mxcert-keys": "mxcert:mxcert-keys 2750", "/etc/mxcert/credentials": "root:mxcert 750", "/etc/mxcert/mxcert.yaml.example": "root:mxcert 640", "/usr/bin/mxcert": "root:root 755",
	} {
		if got := strings.TrimSpace(must(t, s.Host, "stat", "-c", "%U:%G %a", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	s.configured()
	must(t, s.Host, "systemctl", "enable", "--now", "mxcert")
	first := s.servedByAuthority()
	idle := func() {
		t.Helper()
		within(t, 20*time.Second, "the daemon is idle", func() bool { return strings.HasPrefix(s.property("StatusText"), "1 certificate") })
	}
	idle()
	before, pid := s.serviceState(), s.property("MainPID")

	must(t, s.Host, "sh", "-c", "echo '# mine' >>/etc/mxcert/mxcert.yaml.example")
	rpm("-U", "new.rpm")
	if now := s.property("MainPID"); now == pid || s.serviceState() != before {
		t.Errorf("after the upgrade process %s was %s:\n%s", now, pid, s.serviceState())
	}
	if text, err := s.Get("/etc/mxcert/mxcert.yaml.example"); err != nil || !strings.HasSuffix(string(text), "# mine\n") {
		t.Errorf("the example that the administrator has changed: %v", err)
	}
	for _, decision := range []string{"true", "systemctl disable --now mxcert; systemctl enable --now mxcert-renew.timer", "systemctl mask --now mxcert"} {
		must(t, s.Host, "sh", "-ec", decision)
		before := s.serviceState()
		rpm("-U", "full.rpm")
		if now := s.serviceState(); now != before {
			t.Errorf("exchanged after %s: before\n%safter\n%s", decision, before, now)
		}
		rpm("-e mxcert-full", "")
		rpm("-i", "new.rpm")
		must(t, s.Host, "sh", "-c", "systemctl unmask mxcert; systemctl disable --now mxcert-renew.timer; systemctl enable --now mxcert")
		idle()
	}
	if r := s.mxcert("renew"); r.Code != 0 || s.orders() != 1 {
		t.Errorf("renew: exit code %d, %d orders", r.Code, s.orders())
	}

	rpm("-e mxcert", "")
	if n := s.explained(); n != 0 {
		t.Errorf("journalctl explains %d events after the removal", n)
	}
	s.nothingRuns("after the removal")
	s.exist(true, "/var/lib/mxcert/lineages/mx /etc/mxcert/mxcert.yaml /etc/mxcert/credentials/tsig /var/lib/mxcert-keys")
	s.exist(false, "/usr/bin/mxcert /usr/lib/systemd/system/mxcert.service /var/lib/mxcert-install/ran")
	must(t, s.Host, "getent", "passwd", "mxcert")
	if now := s.servedByAuthority(); now != first {
		t.Errorf("%s is served after the removal, want %s", now, first)
	}
}

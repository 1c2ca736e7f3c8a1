package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// play is the README's play for this world, on a host that is reached by nsenter.
const play = `- hosts: mx
  roles:
    - role: mxcert
      mxcert_package: %q
      mxcert_config:
        acme: {email: postmaster@example.org, agree_tos: true, directory: "https://127.0.0.1:14000/dir", ca_file: /etc/pebble/ca.pem, roots_file: /etc/pebble/roots.pem}
        dns:
          provider: rfc2136
          env: {DNSUPDATE_NAMESERVER: "127.0.0.1:53", DNSUPDATE_TSIG_KEY: mxcert., DNSUPDATE_TSIG_ALGORITHM: hmac-sha256., DNSUPDATE_TSIG_SECRET: cred:tsig}
          resolvers: ["127.0.0.1:53"]
          propagation: {timeout: 5s}
        certificates:
          - name: mx
            domains: [mx.example.org, host7.example.org]
            deploy: [{exim: {certificate: /var/lib/mxcert-keys/mx.crt, private_key: /var/lib/mxcert-keys/mx.key, unit: exim4.service}}]
            verify: {endpoints: ["127.0.0.1:25"], timeout: 30s}
      mxcert_secrets: {tsig: %q}
      mxcert_key_readers: [Debian-exim]
      mxcert_exim_macros: {MAIN_TLS_ENABLE: "yes", MAIN_TLS_CERTIFICATE: /var/lib/mxcert-keys/mx.crt, MAIN_TLS_PRIVATEKEY: /var/lib/mxcert-keys/mx.key}
%s`

// recap finds the sums that Ansible prints at the end.
var recap = regexp.MustCompile(`ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

// ansible is a controller.
type ansible struct {
	*story
	deb string
	dir string
}

// play runs the play with a secret and further lines, and gives the sums: changed and failed.
func (a *ansible) play(secret, more string, args ...string) (changed, failed int, output string) {
	a.t.Helper()
	file := filepath.Join(a.dir, "play.yml")
	a.check(os.WriteFile(file, []byte(fmt.Sprintf(play, a.deb, secret, more)), 0o600))
	inventory := fmt.Sprintf("mx ansible_connection=community.docker.nsenter ansible_nsenter_pid=%d ansible_python_interpreter=/usr/bin/python3\n", a.PID())
	a.check(os.WriteFile(filepath.Join(a.dir, "hosts"), []byte(inventory), 0o600))
	cmd := exec.CommandContext(a.t.Context(), "ansible-playbook", append([]string{"-i", filepath.Join(a.dir, "hosts"), file}, args...)...)
	roles, err := filepath.Abs("../ansible/roles")
	a.check(err)
	cmd.Env = append(os.Environ(), "ANSIBLE_ROLES_PATH="+roles, "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCALHOST_WARNING=0", "ANSIBLE_HOME="+a.dir, "ANSIBLE_LOCAL_TEMP="+a.dir, "LC_ALL=C.UTF-8")
	out, runErr := cmd.CombinedOutput()
	sums := recap.FindStringSubmatch(string(out))
	if sums == nil {
		return 0, 1, string(out) // refused before the first task
	}
	_, err = fmt.Sscan(sums[2]+" "+sums[4], &changed, &failed)
	a.check(err)
	if (runErr == nil) != (failed == 0) {
		a.t.Errorf("ansible-playbook: %v, but failed=%d", runErr, failed)
	}
	return changed, failed, string(out)
}

func TestAnsible(t *testing.T) {
	s := begin(t, options{bare: true})
	a := &ansible{story: s, deb: deb(t, "1.0"), dir: t.TempDir()}
	secret := s.TSIGSecret

	// On a host without mxcert the check mode says that something would change, and changes nothing.
	if changed, failed, out := a.play(secret, "", "--check", "--diff"); changed == 0 || failed != 0 {
		t.Errorf("check mode on a bare host: changed=%d failed=%d\n%s", changed, failed, out)
	}
	if r, err := s.Run(t.Context(), "sh", "-c", "test -e /usr/bin/mxcert || test -e /etc/mxcert || test -e /var/cache/mxcert.deb"); err != nil || r.Code == 0 {
		t.Error("check mode changed the host")
	}
	began := time.Now()
	changed, failed, out := a.play(secret, "")
	if changed == 0 || failed != 0 {
		t.Fatalf("first play: changed=%d failed=%d\n%s", changed, failed, out)
	}
	figure(t, "first play %.1f s, changed=%d", time.Since(began).Seconds(), changed)
	first := s.servedByAuthority()
	if strings.Contains(out, secret) {
		t.Error("the output shows the secret")
	}
	for _, where := range []string{"/etc/systemd/system/mxcert.service.d", "/etc/mxcert", "/etc/credstore.encrypted", "/var/log"} {
		if r, err := s.Run(t.Context(), "grep", "-rlF", secret, where); err != nil || strings.TrimSpace(r.Stdout) != "" {
			t.Errorf("the secret is in the clear at %s", r.Stdout)
		}
	}
	began = time.Now()
	if changed, failed, out := a.play(secret, ""); changed != 0 || failed != 0 {
		t.Errorf("second play: changed=%d failed=%d\n%s", changed, failed, out)
	}
	figure(t, "second play %.1f s, changed=0", time.Since(began).Seconds())
	if changed, failed, out := a.play(secret, "", "--check", "--diff"); changed != 0 || failed != 0 {
		t.Errorf("check mode when all is well: changed=%d failed=%d\n%s", changed, failed, out)
	}

	// What somebody changed is predicted and put right. A running service would be faster.
	must(t, s.Host, "systemctl", "stop", "mxcert")
	must(t, s.Host, "rm", "/var/lib/mxcert-keys/mx.crt")
	if changed, failed, out := a.play(secret, "", "--check"); changed != 2 || failed != 0 {
		t.Errorf("check mode with a missing file and a stopped service: changed=%d\n%s", changed, out)
	}
	if changed, failed, _ := a.play(secret, ""); changed == 0 || failed != 0 || s.servedByAuthority() != first {
		t.Errorf("the missing file: changed=%d failed=%d", changed, failed)
	}

	// Mistakes are refused before anything changes.
	for _, mistake := range []string{"      mxcert_sercets: {}\n", "      mxcert_state: presnt\n"} {
		if changed, failed, out := a.play(secret, mistake); failed == 0 || changed != 0 {
			t.Errorf("%s is accepted:\n%s", strings.TrimSpace(mistake), out)
		}
	}
	before := must(t, s.Host, "cat", "/etc/mxcert/mxcert.yaml")
	if _, failed, out := a.play(secret, "      mxcert_renew: true\n", "-e", `{"mxcert_config": {"acme": {"agree_tos": true, "emial": "x"}}}`); failed == 0 || !strings.Contains(out, "emial") {
		t.Errorf("a misspelt setting is accepted:\n%s", out)
	}
	if now := must(t, s.Host, "cat", "/etc/mxcert/mxcert.yaml"); now != before {
		t.Error("a bad configuration replaced the good one")
	}

	// A wrong secret rolls out, the failure is said with the next step; the right one repairs the host.
	wrong := strings.Repeat("A", 43) + "="
	must(t, s.Host, "sh", "-c", "systemctl stop mxcert && rm -rf /var/lib/mxcert/lineages/mx")
	if changed, failed, out := a.play(wrong, ""); failed == 0 || changed == 0 || !strings.Contains(out, "next step") {
		t.Errorf("with a wrong secret: changed=%d failed=%d\n%s", changed, failed, out)
	}
	if changed, failed, out := a.play(secret, ""); failed != 0 || changed == 0 {
		t.Errorf("the right secret again: changed=%d failed=%d\n%s", changed, failed, out)
	}
	if s.servedByAuthority() == first {
		t.Error("the host is not repaired")
	}
	if changed, failed, out := a.play(secret, ""); changed != 0 || failed != 0 {
		t.Errorf("after the repair: changed=%d failed=%d\n%s", changed, failed, out)
	}

	// Uninstall: the certificates stay unless they are purged.
	if _, failed, out := a.play(secret, "      mxcert_state: absent\n"); failed != 0 {
		t.Errorf("uninstall:\n%s", out)
	}
	must(t, s.Host, "test", "-d", "/var/lib/mxcert/lineages/mx")
	if _, failed, out := a.play(secret, "      mxcert_state: absent\n      mxcert_purge: true\n"); failed != 0 {
		t.Errorf("purge:\n%s", out)
	}
	if r, err := s.Run(t.Context(), "test", "-e", "/var/lib/mxcert"); err != nil || r.Code == 0 {
		t.Error("state is left after the purge")
	}
	if changed, failed, out := a.play(secret, "      mxcert_state: absent\n      mxcert_purge: true\n"); changed != 0 || failed != 0 {
		t.Errorf("purged again: changed=%d failed=%d\n%s", changed, failed, out)
	}
}

func TestAnsibleLint(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "cd ../ansible && ansible-lint --offline --nocolor --profile production").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

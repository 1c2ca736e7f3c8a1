package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// From a host without mxcert to one with a certificate, and back. Check mode predicts each play; a play that has nothing to do changes nothing.
func TestAnsible(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	a := newController(t, deb(t, "1.0"), s.Host)
	// Macros that are defined already are replaced: Exim refuses a second definition, and then does not start.
	const macros = "/etc/exim4/exim4.conf.localmacros"
	must(t, s.Host, "sh", "-c", "printf 'MAIN_TLS_CERTIFICATE = /etc/exim4/exim.crt\\nMAIN_TLS_PRIVATEKEY = /etc/exim4/exim.key\\n' >> "+macros+" && update-exim4.conf && systemctl reload exim4")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
	a.play = strings.Replace(a.play, `{MAIN_TLS_ENABLE: "yes"}`, `{MAIN_TLS_ENABLE: "yes", MAIN_HARDCODE_PRIMARY_HOSTNAME: mx.example.org}`, 1)
	load := s.StartLoad(t.Context(), 2, 50*time.Millisecond, "127.0.0.1:25")
	began := time.Now()
	first := a.predicted("first play")
	figure(t, "check mode and first play %.1f s", time.Since(began).Seconds())
	if counts := load.Stop(); counts.Unavailable+counts.Handshake > 0 {
		t.Errorf("senders had no certificate: %v", counts)
	}
	s.servedByAuthority()
	if text := must(t, s.Host, "cat", macros); strings.Count(text, "MAIN_TLS_CERTIFICATE") != 1 || !strings.Contains(text, "/var/lib/mxcert-keys/mx.crt") || !strings.Contains(text, "MAIN_HARDCODE") {
		t.Errorf("the macros are\n%s", text)
	}
	if !strings.Contains(first.output, "Renew") {
		t.Errorf("no renewal:\n%s", first.output)
	}
	for _, where := range []string{"/etc/systemd/system/mxcert.service.d", "/etc/mxcert", "/etc/credstore.encrypted", "/var/log"} {
		if r, err := s.Run(t.Context(), "grep", "-rlF", s.TSIGSecret, where); err != nil || strings.TrimSpace(r.Stdout) != "" {
			t.Errorf("the secret is in the clear at %s", r.Stdout)
		}
	}
	if second := a.predicted("second play"); second.changed != 0 {
		t.Errorf("second play: changed=%d\n%s", second.changed, second.output)
	}
	s.encryptedSecrets()
	serial := s.servedByAuthority()

	// What somebody changed is predicted and put right. A running service would be faster.
	must(t, s.Host, "systemctl", "stop", "mxcert")
	must(t, s.Host, "rm", "/var/lib/mxcert-keys/mx.crt")
	if r := a.predicted("a missing file and a stopped service"); r.changed != 2 || s.servedByAuthority() != serial {
		t.Errorf("changed=%d\n%s", r.changed, r.output)
	}

	// Uninstall: the certificates stay unless they are purged.
	absent := []string{"mxcert_secrets:", "mxcert_state: absent\n      mxcert_secrets:"}
	a.predicted("uninstall", absent...)
	must(t, s.Host, "test", "-d", "/var/lib/mxcert/lineages/mx")
	purge := []string{"mxcert_secrets:", "mxcert_state: absent\n      mxcert_purge: true\n      mxcert_secrets:"}
	a.predicted("purge", purge...)
	left := must(t, s.Host, "sh", "-c", `find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /var/lib/dpkg -o -path /var/lib/mxcert-keys \) -prune -o -name '*mxcert*' -print`)
	for _, path := range strings.Fields(left) {
		// BIND's key is this world's; the mail server goes on with its certificate; the lists of what was enabled are Debian's.
		if path != "/etc/bind/mxcert.key" && !strings.HasPrefix(path, "/var/lib/systemd/") {
			t.Errorf("purge leaves %s", path)
		}
	}
	if r := a.predicted("purged again", purge...); r.changed != 0 {
		t.Errorf("changed=%d\n%s", r.changed, r.output)
	}
	s.servedByAuthority()
}

// encryptedSecrets: only the service can read the secrets. Root's commands are right about them all the same.
func (s *story) encryptedSecrets() {
	s.t.Helper()
	for _, command := range [][]string{{"doctor"}, {"check"}, {"renew", "--dry-run"}, {"renew"}, {"providers", "rfc2136"}, {"account", "show"}, {"account", "register"}, {"deploy", "mx"}} {
		r := s.mxcert(command...)
		if r.Code != 0 || strings.Contains(unfolded(r.Stdout+r.Stderr), "put the value there") || strings.Contains(r.Stdout, "warning secrets") {
			s.t.Errorf("mxcert %s: exit code %d", strings.Join(command, " "), r.Code)
		}
	}
	if r := s.mxcert("doctor"); !strings.Contains(unfolded(r.Stdout), "can be read by the service") || !strings.Contains(r.Stdout, "rfc2136") {
		s.t.Error("doctor has not asked the daemon")
	}
	if r := s.mxcert("check"); !strings.Contains(r.Stderr, "note: dns.env.DNSUPDATE_TSIG_SECRET: systemd hands cred:tsig only to mxcert.service") {
		s.t.Error("check does not say who has the secret")
	}
	must(s.t, s.Host, "systemctl", "stop", "mxcert")
	const run = "systemd-run --pipe --wait --quiet -p LoadCredentialEncrypted=tsig:/etc/credstore.encrypted/mxcert.tsig mxcert doctor"
	if r := s.mxcert("doctor"); r.Code != 0 || !strings.Contains(unfolded(r.Stdout), run) || !strings.Contains(unfolded(r.Stdout), "was not tested") {
		s.t.Errorf("without a daemon: exit code %d", r.Code)
	}
	r, err := s.Run(s.t.Context(), strings.Fields(run)...)
	s.check(err)
	if r.Code != 0 || !strings.Contains(unfolded(r.Stdout), "every secret of the configuration can be read") || strings.Contains(unfolded(r.Stdout), "was not tested") {
		s.t.Errorf("%s: exit code %d\n%s%s", run, r.Code, r.Stdout, r.Stderr)
	}
	s.withoutSecrets()
	must(s.t, s.Host, "systemctl", "start", "mxcert")
}

// withoutSecrets: an order needs the secrets, and the command that has none says how to get them. What it says works.
func (s *story) withoutSecrets() {
	s.t.Helper()
	const run = "systemd-run --pipe --wait --quiet -p LoadCredentialEncrypted=tsig:/etc/credstore.encrypted/mxcert.tsig mxcert renew"
	r := s.mxcert("renew", "--now")
	if r.Code == 0 || strings.Contains(unfolded(r.Stdout+r.Stderr), "put the value there") || !strings.Contains(unfolded(r.Stdout), run) {
		s.t.Errorf("an order without the secrets: exit code %d", r.Code)
	}
	r, err := s.Run(s.t.Context(), append(strings.Fields(run), "--now")...)
	s.check(err)
	if r.Code != 0 || !strings.Contains(r.Stdout, "mx: served, changed") {
		s.t.Errorf("%s --now: exit code %d\n%s%s", run, r.Code, r.Stdout, r.Stderr)
	}
}

// What an operator changes in the play is predicted, and counted once, whoever does it: the daemon sees a new file before the command does.
func TestAnsibleChanges(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	a := newController(t, deb(t, "1.0"), s.Host)
	if r := a.run(nil); r.failed != 0 {
		t.Fatal(r.output)
	}
	serial := s.servedByAuthority()
	names := []string{"host7.example.org]", "host7.example.org, ns.example.org]"}
	r := a.predicted("changed names", names...)
	if r.changed != 2 || s.servedByAuthority() == serial || !strings.Contains(r.output, "changed=2") {
		t.Errorf("changed names: changed=%d\n%s", r.changed, r.output)
	}
	if r := a.predicted("changed names again", names...); r.changed != 0 {
		t.Errorf("changed=%d\n%s", r.changed, r.output)
	}
	unit := append(names, "unit: exim4.service}}]", "unit: exim4.service}}, {files: {certificate: /var/lib/mxcert-keys/copy.crt, private_key: /var/lib/mxcert-keys/copy.key, unit: bind9.service}}]")
	if r := a.predicted("changed unit", unit...); r.changed != 3 { // the file, the rule, the new target
		t.Errorf("changed unit: changed=%d\n%s", r.changed, r.output)
	}
	if rule := must(t, s.Host, "cat", "/etc/polkit-1/rules.d/50-mxcert.rules"); !strings.Contains(rule, "bind9.service") && !strings.Contains(rule, "named.service") {
		t.Errorf("the rule is not changed: %s", rule)
	}
	secret := append(unit, `mxcert_secrets: {tsig: "{{ tsig }}"}`, `mxcert_secrets: {tsig: "{{ tsig }}", more: aHiddenValue}`)
	if r := a.predicted("another secret", secret...); r.changed != 3 || strings.Contains(r.output, "aHiddenValue") { // the secret, the drop-in, the restart
		t.Errorf("another secret: changed=%d\n%s", r.changed, r.output)
	}
	changed := append(unit, `mxcert_secrets: {tsig: "{{ tsig }}"}`, `mxcert_secrets: {tsig: "{{ tsig }}", more: anotherHiddenValue}`)
	if r := a.predicted("changed secret", changed...); r.changed != 2 { // the secret, the restart
		t.Errorf("changed secret: changed=%d\n%s", r.changed, r.output)
	}
	must(t, s.Host, "sh", "-c", "echo '# edited' >> /etc/systemd/system/mxcert.service.d/ansible-credentials.conf")
	if r := a.predicted("changed drop-in", changed...); r.changed != 2 { // the drop-in, the restart
		t.Errorf("changed drop-in: changed=%d\n%s", r.changed, r.output)
	}
	two := append(changed, "    verify: {endpoints: [\"127.0.0.1:25\"], timeout: 30s}\n",
		"    verify: {endpoints: [\"127.0.0.1:25\"], timeout: 30s}\n          - {name: second, domains: [ns.example.org], deploy: [], verify: {endpoints: []}}\n")
	if r := a.predicted("another certificate", two...); r.changed != 2 {
		t.Errorf("another certificate: changed=%d\n%s", r.changed, r.output)
	}
	if r := a.predicted("removed certificate", changed...); r.changed != 1 {
		t.Errorf("removed certificate: changed=%d\n%s", r.changed, r.output)
	}
}

// Mistakes are refused before anything changes, and failures are said in words, with the next step.
func TestAnsibleFailures(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	a := newController(t, deb(t, "1.0"), s.Host)
	misspelt := []string{"acme: {email:", "acme: {emial: x, email:"}
	if r := a.run(misspelt); r.failed == 0 || !strings.Contains(r.output, "emial") || len(r.output) > 6000 {
		t.Errorf("a misspelt setting in the first play:\n%s", r.output)
	}
	if r, err := s.Run(t.Context(), "sh", "-c", "ls /etc/mxcert/mxcert.yaml /etc/credstore.encrypted/mxcert.tsig /etc/systemd/system/mxcert.service.d; systemctl is-active mxcert"); err != nil || r.Stdout != "inactive\n" {
		t.Errorf("more than the package came before the check: %s", r.Stdout)
	}
	if r := a.run(nil); r.failed != 0 {
		t.Fatal(r.output)
	}
	first := s.servedByAuthority()
	before := a.snapshot()
	for _, mistake := range [][]string{{"mxcert_secrets:", "mxcert_sercets: {}\n      mxcert_secrets:"}, {"mxcert_secrets:", "mxcert_state: presnt\n      mxcert_secrets:"},
		append(misspelt, "{{ tsig }}", "another")} {
		if r := a.run(mistake); r.failed == 0 || r.changed != 0 || a.snapshot() != before {
			t.Errorf("%q is accepted:\n%s", mistake[1], r.output)
		}
	}

	// A wrong secret fails the play although nothing is due; the right one repairs it.
	wrong := []string{"{{ tsig }}", strings.Repeat("A", 43) + "="}
	if r := a.run(wrong); r.failed == 0 || !strings.Contains(r.output, "dns-provider: ") || !strings.Contains(r.output, "next step: ") || strings.Contains(r.output, `"checks"`) {
		t.Errorf("with a wrong secret:\n%s", r.output)
	}
	if r := a.run(nil); r.failed != 0 || r.changed != 2 {
		t.Errorf("the right secret again: changed=%d\n%s", r.changed, r.output)
	}
	if s.servedByAuthority() != first {
		t.Error("a secret has changed the certificate")
	}

	// Without the CA the play fails, and the old certificate stays in service.
	must(t, s.Host, "systemctl", "stop", "pebble")
	names := []string{"host7.example.org]", "host7.example.org, ns.example.org]"}
	r := a.run(names)
	if r.failed == 0 || !strings.Contains(r.output, "next step: ") || strings.Contains(r.output, `"certificates"`) {
		t.Errorf("without the CA:\n%s", r.output)
	}
	t.Logf("without the CA:\n%s", r.output)
	if s.fileSerial("/var/lib/mxcert-keys/mx.crt") != first {
		t.Error("the old certificate is not kept")
	}
}

func TestAnsibleLint(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "cd ../ansible && ansible-lint --offline --nocolor --profile production").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

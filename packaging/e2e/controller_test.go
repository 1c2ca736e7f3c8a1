package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mxcert/packaging/e2e/mailhost"
)

// play is the README's play for this world, on hosts that are reached by nsenter.
const play = `- hosts: mx
  roles:
    - role: mxcert
      mxcert_package: PACKAGE
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
      mxcert_secrets: {tsig: "{{ tsig }}"}
      mxcert_key_readers: [Debian-exim]
      mxcert_exim_macros: {MAIN_TLS_ENABLE: "yes"}
`

// recap finds the sums that Ansible prints at the end for a host.
var recap = regexp.MustCompile(`(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

// controller runs plays on hosts.
type controller struct {
	t     *testing.T
	deb   string
	dir   string
	hosts []*mailhost.Host
	play  string
}

func newController(t *testing.T, deb string, hosts ...*mailhost.Host) *controller {
	return &controller{t: t, deb: deb, dir: t.TempDir(), hosts: hosts, play: strings.Replace(play, "PACKAGE", deb, 1)}
}

// result is how a play ended.
type result struct {
	changed, failed int            // of all hosts
	touched         map[string]int // tasks that went well, by host
	output          string
}

// run runs the play with changes, pairs of texts of which the first is replaced by the second. A text that ends in \n is added at the end.
func (c *controller) run(changes []string, args ...string) result {
	c.t.Helper()
	text := c.play
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			c.t.Fatalf("the play has no %q", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	c.put("play.yml", text)
	inventory := "[mx]\n"
	for i, h := range c.hosts {
		inventory += fmt.Sprintf("mx%d ansible_connection=community.docker.nsenter ansible_nsenter_pid=%d ansible_python_interpreter=/usr/bin/python3 tsig=%s\n", i+1, h.PID(), h.TSIGSecret)
	}
	c.put("hosts", inventory)
	return c.execute(append([]string{"-i", filepath.Join(c.dir, "hosts"), filepath.Join(c.dir, "play.yml")}, args...)...)
}

func (c *controller) put(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// execute runs ansible-playbook.
func (c *controller) execute(args ...string) result {
	c.t.Helper()
	roles, err := filepath.Abs("../ansible/roles")
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(c.t.Context(), "ansible-playbook", args...)
	cmd.Env = append(os.Environ(), "ANSIBLE_ROLES_PATH="+roles, "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCALHOST_WARNING=0", "ANSIBLE_HOME="+c.dir, "ANSIBLE_LOCAL_TEMP="+c.dir, "LC_ALL=C.UTF-8")
	out, runErr := cmd.CombinedOutput()
	r := result{output: string(out), touched: map[string]int{}}
	for _, sums := range recap.FindAllStringSubmatch(string(out), -1) {
		var ok, changed, unreachable, failed int
		if _, err := fmt.Sscan(strings.Join(sums[2:], " "), &ok, &changed, &unreachable, &failed); err != nil {
			c.t.Fatal(err)
		}
		r.changed, r.failed, r.touched[sums[1]] = r.changed+changed, r.failed+failed+unreachable, ok
	}
	if len(r.touched) == 0 {
		r.failed = 1 // refused before the first task
	}
	if (runErr == nil) != (r.failed == 0) {
		c.t.Errorf("ansible-playbook: %v, but failed=%d\n%s", runErr, r.failed, out)
	}
	for _, h := range c.hosts {
		if strings.Contains(r.output, h.TSIGSecret) {
			c.t.Error("the output shows the secret")
		}
	}
	return r
}

// predicted runs a play, first in check mode. Both change the same number of tasks, and the check mode changes nothing on the host.
func (c *controller) predicted(what string, changes ...string) result {
	c.t.Helper()
	before := c.snapshot()
	check := c.run(changes, "--check", "--diff")
	if check.failed != 0 {
		c.t.Fatalf("%s, check mode: failed=%d\n%s", what, check.failed, check.output)
	}
	if after := c.snapshot(); after != before {
		c.t.Errorf("%s: check mode changed the host:\n%s\n---\n%s", what, before, after)
	}
	did := c.run(changes)
	if did.failed != 0 || did.changed != check.changed {
		c.t.Fatalf("%s: changed=%d failed=%d, check mode said changed=%d\n%s\n%s", what, did.changed, did.failed, check.changed, check.output, did.output)
	}
	figure(c.t, "%s: changed=%d in check mode and in the play", what, did.changed)
	return did
}

// snapshot lists what the role may change: files with their times, the service's state, and the serial numbers.
func (c *controller) snapshot() (text string) {
	c.t.Helper()
	for _, h := range c.hosts {
		r, err := h.Run(c.t.Context(), "sh", "-c", `find /etc /var/cache/mxcert.deb /var/lib/mxcert-keys /usr/bin/mxcert -newermt 2000-01-01 -type f -printf '%p %T@ %m %u:%g\n' 2>/dev/null | sort
			systemctl show mxcert.service -P ActiveState -P MainPID; ls /var/lib/mxcert/lineages 2>/dev/null`)
		if err != nil {
			c.t.Fatal(err)
		}
		text += r.Stdout
	}
	return text
}

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The play for three hosts, from hosts without mxcert to a fleet: one order, one certificate. A second play changes nothing.
func TestPlay(t *testing.T) {
	w := newTown(t, "mx1", "mx2", "mx3")
	w.hosts = w.boot(1, 2, 3)
	dir := t.TempDir()
	deb, err := mailhost.BuildDeb(t.Context(), dir, "1.0")
	w.check(err)
	w.say("hosts and a package")

	edited, err := os.ReadFile("../../ansible/fleet.yml.example")
	w.check(err)
	play := string(edited)
	for _, edit := range [][2]string{
		{"directory: letsencrypt\n", "directory: https://" + townAddress + ":14000/dir\n          ca_file: /etc/pebble/ca.pem\n          roots_file: /etc/pebble/roots.pem\n"},
		{"provider: rfc2136\n", "provider: rfc2136\n          resolvers: [\"127.0.0.1:53\"]\n"}, {"192.0.2.53:53", townAddress + ":53"},
		{`"https://192.0.2.11:2379", "https://192.0.2.12:2379", "https://192.0.2.13:2379"`, `"` + strings.Join(w.endpoints(), `", "`) + `"`},
	} {
		play = replace(edit[0], edit[1])(play)
	}
	w.check(os.WriteFile(filepath.Join(dir, "play.yml"), []byte(play), 0o600))
	w.check(os.WriteFile(filepath.Join(dir, "hosts.json"), w.inventory(deb), 0o600))
	packaging, err := filepath.Abs("../..")
	w.check(err)
	ansible(t, dir, "ansible-galaxy", "collection", "install", packaging+"/ansible")

	run := []string{"ansible-playbook", "-i", "hosts.json", "play.yml"}
	predicted := ansible(t, dir, append(run, "--check", "--diff")...)
	w.say("check mode")
	first := ansible(t, dir, run...)
	w.say("the first play")
	serial := w.serve(laterLimit, "", w.hosts...)
	w.served(serial)
	w.within(laterLimit, "three hosts are in the fleet", w.joined)
	if first == 0 || predicted != first {
		t.Errorf("check mode: changed=%d, the first play: changed=%d", predicted, first)
	}
	if second := ansible(t, dir, run...); second != 0 {
		t.Errorf("the second play: changed=%d", second)
	}
	w.say("the second play")
	w.served(serial)
	if n := len(w.orders.list()); n != 1 {
		t.Errorf("%d orders for three hosts", n)
	}
	figure(t, "first play changed=%d on three hosts, as check mode said; one order; second play changed=0", first)
	w.conclude()
}

// inventory are the hosts with their variables.
func (w *town) inventory(deb string) []byte {
	w.t.Helper()
	keygen, err := w.members[0].Read("/usr/bin/age-keygen")
	w.check(err)
	identities := map[string]string{}
	for _, h := range w.hosts {
		w.check(h.Put("/usr/bin/age-keygen", []byte(keygen), 0o755))
		w.check(h.Put("/etc/pebble/ca.pem", w.ca.root(), 0o644))
		w.check(h.Put("/etc/pebble/roots.pem", []byte(w.roots()), 0o644))
		identities[h.name] = w.run(h, "age-keygen 2>/dev/null")
		w.all = append(w.all, strings.TrimSpace(w.run(h, "age-keygen -y <<'END'\n"+identities[h.name]+"END\n")))
	}
	w.recovery()
	hosts := map[string]any{}
	for _, h := range w.hosts {
		hosts[h.name] = map[string]any{"ansible_nsenter_pid": h.PID(), "vault_age": identities[h.name],
			"etcd_certificate": string(w.ca.clients[h.name].certificate), "vault_etcd_key": string(w.ca.clients[h.name].key)}
	}
	text, err := json.Marshal(map[string]any{"mail": map[string]any{"hosts": hosts, "vars": map[string]any{
		"ansible_connection": "community.docker.nsenter", "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": false, "mxcert_package": deb,
		"vault_tsig": tsigSecret, "etcd_ca": string(w.ca.root()), "fleet_recipients": w.all,
	}}})
	w.check(err)
	return text
}

// joined asks each host for the state of the fleet. The secrets of these hosts are for the service alone, so a command is refused, and its hint
// is a command that has them: that one is run as it is written.
func (w *town) joined() error {
	for _, h := range w.hosts {
		r, err := h.Run(w.t.Context(), "mxcert", "fleet", "status", "--json")
		if err != nil {
			return err
		}
		var refused struct{ Error struct{ Hint string } }
		if err := json.Unmarshal([]byte(r.Stdout), &refused); err != nil {
			return fmt.Errorf("%s: exit status %d: %w\n%s%s", h.name, r.Code, err, r.Stdout, r.Stderr)
		}
		_, command, given := strings.Cut(refused.Error.Hint, ": systemd-run ")
		if r.Code == 0 || !given {
			return fmt.Errorf("%s: exit status %d, hint %q", h.name, r.Code, refused.Error.Hint)
		}
		if r, err = h.Run(w.t.Context(), "sh", "-c", "systemd-run "+command+" --json"); err != nil {
			return err
		}
		s := fleetStatus{code: r.Code}
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
			return fmt.Errorf("%s: exit status %d: %w\n%s%s", h.name, r.Code, err, r.Stdout, r.Stderr)
		}
		if err := s.wrong(len(w.hosts)); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	return nil
}

var changes = regexp.MustCompile(`changed=(\d+) +unreachable=0 +failed=0`)

// ansible runs a program of Ansible's that has to succeed, and returns how many tasks of all hosts have changed something. It ends before the
// limit of the test does, so that the test can say which task took long.
func ansible(t *testing.T, dir string, argv ...string) (changed int) {
	t.Helper()
	ctx := t.Context()
	if end, limited := t.Deadline(); limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-2*time.Minute))
		defer cancel()
	}
	timed := filepath.Join(dir, "ansible.log")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOG_PATH="+timed, "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		if log, readErr := os.ReadFile(timed); readErr == nil {
			out = append(out, log...)
		}
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	for _, secret := range []string{tsigSecret, "AGE-SECRET-KEY-1", "PRIVATE KEY-----"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("the output of %v shows a secret", argv)
		}
	}
	recap := changes.FindAllStringSubmatch(string(out), -1)
	if argv[0] == "ansible-playbook" && len(recap) != 3 {
		t.Fatalf("a play on three hosts says\n%s", out)
	}
	for _, host := range recap {
		var n int
		if _, err := fmt.Sscan(host[1], &n); err != nil {
			t.Fatal(err)
		}
		changed += n
	}
	return changed
}

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The wall keeps whoever has taken over the service (the user mxcert) away from everything else on the host: see SECURITY.md. These
// tests are that attacker. Each row of TestWall does one thing as mxcert, has root run commands, and compares the whole host before and
// after. Two rows of the review are stories of their own: SEC-09 is TestTimer, and who reaches the helpers' sockets is
// TestHelperSockets. SEC-12 is about the interfaces of DNS providers and is shown by acme/dnsprovider TestHide and TestForeignBody.

//go:embed snapshot.py
var snapshotProgram []byte

//go:embed siege.py
var siegeProgram []byte

const (
	wallPatience = 20 * time.Second // --timeout of every command
	wallMargin   = 10 * time.Second // on a machine that has other work
	wallMemory   = 64 << 20
	precious     = "/srv/precious" // only root can read it; its files have the names of those of the state
)

// wallConfig has a certificate for each kind of place: the mail server's, the service's own directory, a directory in there that the
// service can exchange, a map of root's, and directories of root's.
var wallConfig = hostConfig + `  - name: own
    domains: [own.example.org]
    deploy: [{files: {certificate: /var/lib/mxcert-keys/own.crt, private_key: /var/lib/mxcert-keys/own.key}}]
    verify: {endpoints: []}
  - name: sub
    domains: [sub.example.org]
    deploy: [{files: {certificate: /var/lib/mxcert-keys/sub/fullchain.pem, private_key: /var/lib/mxcert-keys/sub/privkey.pem}}]
    verify: {endpoints: []}
  - name: map
    domains: [map.example.org]
    deploy: [{exim: {combined: "/etc/exim4/tls/{name}.{serial}.pem", sni_map: /etc/exim4/tls/sni.map, group: Debian-exim, reload: never, unchecked: true}}]
    verify: {endpoints: []}
  - name: root
    domains: [root.example.org]
    deploy:
      - files: {certificate: /etc/exim4/twins/a/x.crt, private_key: /etc/exim4/twins/a/x.key}
      - files: {certificate: /etc/exim4/twins/a_x.crt, private_key: /etc/exim4/twins/a_x.key}
      - files: {certificate: /etc/exim4/setgid/x.crt, private_key: /etc/exim4/setgid/x.key}
    verify: {endpoints: []}
`

// targets are the places of wallConfig outside of what snapshot.py leaves out always, and the directories around them.
var targets = []string{"/etc/exim4", certificateFile, keyFile, "/etc/exim4/tls/", "/etc/exim4/twins", "/etc/exim4/twins/a", "/etc/exim4/twins/a/x.crt", "/etc/exim4/twins/a/x.key",
	"/etc/exim4/twins/a_x.crt", "/etc/exim4/twins/a_x.key", "/etc/exim4/setgid", "/etc/exim4/setgid/x.crt", "/etc/exim4/setgid/x.key"}

// walled is a host that is watched.
type walled struct {
	*story
	canary string // in files that only root can read
}

// prepare makes what wallConfig needs, and precious files that root owns.
const prepare = `set -e
install -d -m 0700 -o mxcert -g mxcert /var/lib/mxcert
install -d -m 0750 -o root -g Debian-exim /etc/exim4/tls
install -d -m 0755 /etc/exim4/twins/a /etc/cron.d /etc/logrotate.d
install -d -m 2750 -o root -g Debian-exim /etc/exim4/setgid
for key in /etc/exim4/twins/a/x.key /etc/exim4/twins/a_x.key; do
	openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out $key
done
mkdir -p /root/operator; cp /etc/exim4/twins/a/x.key /root/operator/a; cp /etc/exim4/twins/a_x.key /root/operator/b
umask 077
mkdir -p /srv/precious/1 /srv/precious/.tmp-2
for name in record.json meta.json account.json daemon.json running.yaml order.json lock fullchain.pem privkey.pem .tmp-1 1/meta.json 1/privkey.pem 1/fullchain.pem secret; do
	printf '{"%s":' "$CANARY"\"$CANARY\"'}\n%s\n' "$CANARY" >/srv/precious/$name
done
chmod 0755 /srv/precious
systemctl start mxcert-install.socket mxcert-hook.socket
runuser -u mxcert -- mkdir -p /var/lib/mxcert-keys/sub
`

func newWall(t *testing.T, config string) *walled {
	t.Helper()
	random := make([]byte, 12)
	_, _ = rand.Read(random)
	w := &walled{begin(t, options{service: true, config: config}), "canary" + hex.EncodeToString(random)}
	for path, program := range map[string][]byte{"/run/wall/snapshot.py": snapshotProgram, "/run/wall/siege.py": siegeProgram, "/run/wall/attacker.py": attackerProgram} {
		w.check(w.Put(path, program, 0o644))
	}
	must(t, w.Host, "env", "CANARY="+w.canary, "sh", "-c", prepare)
	if r := w.mxcert("renew"); r.Code != 0 {
		t.Fatalf("the first renewal: exit code %d", r.Code)
	}
	t.Cleanup(func() { w.canaryKept(t) })
	return w
}

// in is the wall in a test of its own.
func (w *walled) in(t *testing.T) *walled { return &walled{w.story.in(t), w.canary} }

// ran is what siege.py says of a command.
type ran struct {
	Argv        []string `json:"argv"`
	Code        int      `json:"code"`
	Seconds     float64  `json:"seconds"`
	Memory      int      `json:"memory"`
	Killed      bool     `json:"killed"`
	Unprintable []string `json:"unprintable"`
	Output      string   `json:"output"`
}

// faults says what is wrong with a command, whatever it was asked to do.
func (r ran) faults(canary string) (list []string) {
	if limit := wallPatience + wallMargin; r.Killed || r.Seconds > limit.Seconds() {
		list = append(list, fmt.Sprintf("it took %.1f s", r.Seconds))
	}
	if r.Memory > wallMemory {
		list = append(list, fmt.Sprintf("it used %d MiB", r.Memory>>20))
	}
	if len(r.Unprintable) > 0 {
		list = append(list, fmt.Sprintf("it printed %v", r.Unprintable))
	}
	for _, word := range []string{canary, "panic: ", "goroutine ", "fatal error: ", "out of memory"} {
		if strings.Contains(r.Output, word) {
			list = append(list, "it printed "+word)
		}
	}
	return list
}

// siege runs siege.py, and gives what it says of each command.
func (w *walled) siege(order map[string]any) (list []ran) {
	w.t.Helper()
	order["patience"] = (wallPatience + 3*wallMargin).Seconds()
	order["environment"] = map[string]string{"ROOTS_SECRET": w.canary}
	text, err := json.Marshal(order)
	w.check(err)
	ctx, cancel := withTimeout(w.t, 8*time.Minute)
	defer cancel()
	r, err := w.RunInput(ctx, string(text), "python3", "/run/wall/siege.py")
	w.check(err)
	if r.Code != 0 {
		w.t.Fatalf("siege.py: exit code %d\n%s", r.Code, r.Stderr)
	}
	for line := range strings.Lines(r.Stdout) {
		var one ran
		w.check(json.Unmarshal([]byte(line), &one))
		w.said.WriteString(one.Output)
		if faults := one.faults(w.canary); len(faults) > 0 {
			w.t.Errorf("%q, exit code %d: %s\n%.3000s", one.Argv, one.Code, strings.Join(faults, "; "), one.Output)
		}
		list = append(list, one)
	}
	return list
}

// timed is a command as root runs it here.
func timed(args ...string) []string {
	return append([]string{"mxcert", "--timeout", wallPatience.String()}, args...)
}

// root has root run one command of mxcert, which must keep to its bounds. A negative code allows any. A later --timeout overrides the first.
func (w *walled) root(code int, args ...string) ran {
	w.t.Helper()
	r := w.siege(map[string]any{"rounds": 1, "commands": [][]string{timed(args...)}})[0]
	w.t.Logf("mxcert %s: exit code %d, %.1f s, %d MiB\n%s", strings.Join(args, " "), r.Code, r.Seconds, r.Memory>>20, r.Output)
	if code >= 0 && r.Code != code {
		w.t.Errorf("mxcert %v: exit code %d, want %d\n%s", args, r.Code, code, r.Output)
	}
	return r
}

// asMxcert runs a shell script as the service's user, with the user's groups.
func (w *walled) asMxcert(script string, argv ...string) mailhost.Result {
	w.t.Helper()
	return w.asMxcertRun(append([]string{"sh", "-ec", script, "sh"}, argv...)...)
}

func (w *walled) asMxcertRun(argv ...string) mailhost.Result {
	w.t.Helper()
	r, err := w.Run(w.t.Context(), append([]string{"setpriv", "--reuid=mxcert", "--regid=mxcert", "--init-groups", "--"}, argv...)...)
	w.check(err)
	w.said.WriteString(r.Stdout + r.Stderr)
	return r
}

// does is asMxcert for a script that must succeed: an attack that is not made shows nothing.
func (w *walled) does(script string, argv ...string) string {
	w.t.Helper()
	r := w.asMxcert(script, argv...)
	if r.Code != 0 {
		w.t.Fatalf("the attack itself fails, exit code %d: %s\n%s%s", r.Code, script, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// watch notes what every file of the host is. The function that it returns reports every change that was not promised.
func (w *walled) watch(promised ...string) (unchanged func()) {
	w.t.Helper()
	sum := sha256.Sum256([]byte(w.t.Name()))
	argv := append([]string{"python3", "/run/wall/snapshot.py", "/run/wall/" + hex.EncodeToString(sum[:8])}, promised...)
	must(w.t, w.Host, argv...)
	return func() {
		w.t.Helper()
		r, err := w.Run(w.t.Context(), argv...)
		w.check(err)
		if r.Code != 0 {
			w.t.Errorf("outside of what may change:\n%s%s", r.Stdout, r.Stderr)
		}
	}
}

// canaryKept looks for the canary in all that mxcert can read, in what was printed and in the journal.
func (w *walled) canaryKept(t *testing.T) {
	if strings.Contains(w.said.String(), w.canary) {
		t.Error("the canary was printed")
	}
	for what, script := range map[string]string{
		"in a file that mxcert can read": `setpriv --reuid=mxcert --regid=mxcert --init-groups -- grep -rlF --devices=skip -f - --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr / 2>/dev/null; true`,
		"in a file of root's":            `grep -rlF --devices=skip -f - /etc /run /root /tmp /var 2>/dev/null; true`,
		"in the journal":                 `journalctl --no-pager -o verbose | grep -F -f - ; true`,
	} {
		r, err := w.RunInput(withoutCancel(t), w.canary+"\n", "sh", "-c", script)
		if err != nil || strings.TrimSpace(r.Stdout) != "" {
			t.Errorf("the canary is %s: %s %v", what, r.Stdout, err)
		}
	}
	// The search finds it where it is.
	if r, err := w.RunInput(withoutCancel(t), w.canary+"\n", "grep", "-rlF", "-f", "-", precious); err != nil || strings.Count(r.Stdout, "\n") < 10 {
		t.Errorf("the search for the canary finds %q, %v", r.Stdout, err)
	}
}

// withTimeout is a context of a test that ends by itself.
func withTimeout(t *testing.T, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), limit)
}

// withoutCancel is a context for what runs after a test.
func withoutCancel(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

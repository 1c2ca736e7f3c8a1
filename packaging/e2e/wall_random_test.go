package e2e

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

//go:embed attacker.py
var attackerProgram []byte

// rootsCommands are what root runs while the attacker is at work.
var rootsCommands = [][]string{{"renew"}, {"status"}, {"renew", "--now", "mx"}, {"history"}, {"renew", "--dry-run"}, {"doctor"}, {"deploy", "mx"}, {"verify"}, {"rollback", "mx"}, {"account", "show"},
	{"check"}, {"config", "show"}}

// number is a variable of the environment, or what it is without it.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWallAtRandom has an attacker do thousands of random things as mxcert while root runs one command after the other, first without the
// daemon and then with it. MXCERT_WALL_SEED repeats the things of an earlier run, MXCERT_WALL_ACTIONS says how many they are. What happens
// at the same time is not repeated.
func TestWallAtRandom(t *testing.T) {
	seed, actions := number(t, "MXCERT_WALL_SEED", rand.IntN(1_000_000)), number(t, "MXCERT_WALL_ACTIONS", 10_000)
	figure(t, "MXCERT_WALL_SEED=%d MXCERT_WALL_ACTIONS=%d", seed, actions)
	w := newWall(t, wallConfig)
	unchanged := w.watch(targets...)
	for i, daemon := range []bool{false, true} {
		if daemon {
			w.cleared()
			must(t, w.Host, "systemctl", "start", "mxcert.service")
			w.servedByAuthority()
		}
		w.underAttack(seed+i, actions/2)
		unchanged()
		w.canaryKept(t) // before what the attacker has kept is gone
		if t.Failed() {
			break
		}
	}
	must(t, w.Host, "systemctl", "stop", "mxcert.service")
	for _, word := range []string{"panic: ", "fatal error: ", "goroutine "} {
		if out := must(t, w.Host, "sh", "-c", `journalctl --no-pager -o cat -u mxcert.service -u 'mxcert-*@*' | grep -A20 -F "$1" | head -n 60; true`, "sh", word); out != "" {
			t.Errorf("the journal has %q:\n%s", word, out)
		}
	}
	// The attacker is gone, and root removes what it has left: all is well again.
	w.cleared()
	w.root(0, "renew")
	w.servedByAuthority()
	must(t, w.Host, "systemctl", "start", "mxcert.service")
	w.asleep()
	must(t, w.Host, "systemctl", "stop", "mxcert.service")
	unchanged()
}

// cleared removes all that the attacker may have made.
func (w *walled) cleared() {
	w.t.Helper()
	must(w.t, w.Host, "sh", "-ec", `systemctl stop mxcert.service 2>/dev/null; systemctl reset-failed mxcert.service 2>/dev/null || true
		find /var/lib/mxcert /var/lib/mxcert-keys -mindepth 1 -delete
		find /tmp /var/tmp /dev/shm /run/lock -xdev -depth -mindepth 1 -user mxcert -exec rm -rf {} +
		chmod 0700 /var/lib/mxcert; chmod 2750 /var/lib/mxcert-keys; install -d -o mxcert -g mxcert-keys /var/lib/mxcert-keys/sub
		systemctl start mxcert-install.socket mxcert-hook.socket`)
}

// underAttack runs the attacker and root's commands at the same time.
func (w *walled) underAttack(seed, actions int) {
	w.t.Helper()
	const going = "/run/wall/going"
	must(w.t, w.Host, "touch", going)
	type result struct{ stdout, stderr string }
	ended, sampled := make(chan result, 1), make(chan string, 1)
	ctx, cancel := withTimeout(w.t, 5*time.Minute)
	defer cancel()
	go func() {
		r, err := w.Run(ctx, "setpriv", "--reuid=mxcert", "--regid=mxcert", "--init-groups", "--", "python3", "/run/wall/attacker.py", strconv.Itoa(seed), strconv.Itoa(actions))
		_, _ = w.Run(ctx, "rm", going)
		ended <- result{r.Stdout, fmt.Sprint(r.Stderr, " ", r.Code, " ", err)}
	}()
	go func() {
		r, err := w.Run(ctx, "python3", "-c", sampler, going)
		sampled <- fmt.Sprint(r.Stdout, r.Stderr, err)
	}()
	var commands [][]string
	for _, args := range rootsCommands {
		commands = append(commands, timed(args...))
	}
	began := time.Now()
	list := w.siege(map[string]any{"rounds": 2, "while": going, "commands": commands})
	took := time.Since(began)
	attack := <-ended
	w.said.WriteString(attack.stdout)
	var did struct {
		Actions int
		Seconds float64
		Places  []string
		Wins    []string
		Done    map[string]int
	}
	if err := json.Unmarshal([]byte(attack.stdout), &did); err != nil {
		w.t.Fatalf("the attacker: %v\n%s%s", err, attack.stdout, attack.stderr)
	}
	if did.Actions < actions || did.Done["exchange_link"] == 0 || did.Done["spied mxcert"] == 0 || did.Done["false_daemon"] == 0 {
		w.t.Errorf("the attacker has not done what he should: %+v", did)
	}
	if len(did.Wins) > 0 {
		w.t.Errorf("the attacker has won: %q", did.Wins)
	}
	var slowest float64
	var most, tasks, memory int
	codes := map[int]int{}
	for _, r := range list {
		slowest, most = max(slowest, r.Seconds), max(most, r.Memory)
		codes[r.Code]++
	}
	sample := <-sampled
	if _, err := fmt.Sscan(sample, &tasks, &memory); err != nil || tasks > 1024 || memory > 1<<30 || tasks == 0 {
		w.t.Errorf("root's slice had up to %d tasks and %d bytes: %s", tasks, memory, sample)
	}
	figure(w.t, "%d actions in %.0f s (%d looks at mxcert), %d commands in %.0f s, exit codes %v, the slowest %.1f s, at most %d MiB; root's slice at most %d tasks, %d MiB; places %v", did.Actions,
		did.Seconds, did.Done["spied mxcert"], len(list), took.Seconds(), codes, slowest, most>>20, tasks, memory>>20, did.Places)
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(did.Done)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, did.Done[kind]))
	}
	w.t.Logf("%s", strings.Join(kinds, ", "))
	for _, r := range list[:min(len(list), 2*len(rootsCommands))] {
		w.t.Logf("%v: exit code %d, %.1f s, %d MiB, %d bytes", r.Argv[3:], r.Code, r.Seconds, r.Memory>>20, len(r.Output))
	}
}

// sampler prints the most tasks, and the most bytes of memory, that the programs of root's slice had together as long as a file is there.
const sampler = `
import glob, os, sys, time
tasks = memory = 0
while os.path.exists(sys.argv[1]):
    t = m = 0
    for procs in glob.glob("/sys/fs/cgroup/**/system-mxcert.slice/**/cgroup.procs", recursive=True):
        try:
            for pid in open(procs).read().split():
                status = open("/proc/%s/status" % pid).read()
                t += int(status.split("\nThreads:")[1].split()[0])
                m += int(status.split("\nRssAnon:")[1].split()[0]) << 10
        except (OSError, IndexError): pass
    tasks, memory = max(tasks, t), max(memory, m)
    time.sleep(0.2)
print(tasks, memory)
`

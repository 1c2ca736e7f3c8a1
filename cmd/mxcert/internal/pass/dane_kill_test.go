package pass

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/bundle"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// killRoll makes the pass of a killed process one that changes the key. killStore is the change of the store at which SIGKILL ends it: its
// number, negative for the moment before the change.
const (
	killRoll  = "MXCERT_TEST_KILL_ROLL"
	killStore = "MXCERT_TEST_KILL_STORE"
)

// mortal is a store whose process ends at one of its changes.
type mortal struct {
	*disk.Store
	at int64
	n  atomic.Int64
}

// dying returns a store that kills this process as the environment says.
func dying(store *disk.Store, err error) (*mortal, error) {
	at, _ := strconv.ParseInt(os.Getenv(killStore), 10, 64)
	return &mortal{Store: store, at: at}, err
}

func (m *mortal) around(change func() error) error {
	n := m.n.Add(1)
	if n == -m.at {
		die()
	}
	err := change()
	if n == m.at {
		die()
	}
	return err
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (m *mortal) Replace(key string, value []byte) error {
	return m.around(func() error { return m.Store.Replace(key, value) })
}

func (m *mortal) Rename(from, to string) error {
	return m.around(func() error { return m.Store.Rename(from, to) })
}

func (m *mortal) Remove(key string) error {
	return m.around(func() error { return m.Store.Remove(key) })
}

// optionsOfChild are those of the pass of a killed process.
func optionsOfChild() Options {
	if os.Getenv(killRoll) == "" {
		return renew
	}
	return Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}}
}

// executioner kills a process of its own at one of its changes: of the store, or of the zone.
type executioner struct {
	*daneHost
	kind string

	mu     sync.Mutex
	left   int // updates until it is killed
	victim *os.Process
	ended  chan struct{}
}

// The moments at which a process is killed.
const (
	beforeStore  = "before a change of the store"
	afterStore   = "after a change of the store"
	beforeUpdate = "before an update of the zone"
	afterUpdate  = "after an update of the zone"
)

func newExecutioner(h *daneHost, kind string) *executioner {
	e := &executioner{daneHost: h, kind: kind}
	e.Primary.SetFaults(nameserver.Faults{
		Before: func(request *dns.Msg) {
			if kind == beforeUpdate && request.Opcode == dns.OpcodeUpdate {
				e.arrives()
			}
		},
		Edit: func(request, reply *dns.Msg) *dns.Msg {
			if kind == afterUpdate && request.Opcode == dns.OpcodeUpdate {
				e.arrives()
			}
			return reply
		},
	})
	return e
}

// arrives counts an update, and kills the process if it is the one.
func (e *executioner) arrives() {
	e.mu.Lock()
	if e.victim == nil {
		e.mu.Unlock()
		return
	}
	e.left--
	hit, victim, ended := e.left == 0, e.victim, e.ended
	e.mu.Unlock()
	if hit {
		_ = victim.Kill()
		<-ended
	}
}

// kill makes a pass in a process of its own, and kills it at the n-th change. It reports whether the pass lived that long.
func (e *executioner) kill(n int, roll bool) bool {
	e.t.Helper()
	child := exec.CommandContext(e.t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), killEnv+"="+e.config)
	if roll {
		child.Env = append(child.Env, killRoll+"=1")
	}
	switch e.kind {
	case beforeStore:
		child.Env = append(child.Env, killStore+"="+strconv.Itoa(-n))
	case afterStore:
		child.Env = append(child.Env, killStore+"="+strconv.Itoa(n))
	}
	ended := make(chan struct{})
	e.mu.Lock()
	e.check(child.Start())
	e.victim, e.ended, e.left = child.Process, ended, n
	e.mu.Unlock()
	err := child.Wait()
	close(ended)
	e.mu.Lock()
	e.victim = nil
	e.mu.Unlock()
	return err != nil
}

// intact fails the test if a record of ours is published whose key is lost, or if a record of somebody else is gone.
func (h *daneHost) intact(when, other string) {
	h.t.Helper()
	keys := map[string]bool{}
	generations, err := h.lineage().Generations()
	h.check(err)
	for _, g := range generations {
		if _, err := h.lineage().Bundle(g.ID); err == nil {
			keys[dane.Record(g.SPKI).String()] = true
		}
	}
	if next, err := readNext(h.lineage(), bundle.EC256); err == nil {
		keys[dane.Record(next.SPKI).String()] = true
	}
	published := h.published()
	for _, record := range published {
		if record != other && !keys[record] {
			h.t.Errorf("%s: %s is published, and its key is lost", when, record)
		}
	}
	if other != "" && !slices.Contains(published, other) {
		h.t.Errorf("%s: the record of somebody else is gone: %q", when, published)
	}
}

// A change of keys is killed before and after each change of the store and of the zone. The served key is always in every set that senders may
// hold, no key is lost whose record is published, records of others stay, and it comes to its end.
func TestKillRoll(t *testing.T) {
	t.Parallel()
	var points atomic.Int64
	t.Run("points", func(t *testing.T) {
		for _, kind := range []string{beforeStore, afterStore, beforeUpdate, afterUpdate} {
			shares := 1
			if kind == beforeStore || kind == afterStore {
				shares = 3 // with the two others, as many as run at once on two processors
			}
			for share := range shares {
				t.Run(fmt.Sprintf("%s %d", kind, share+1), func(t *testing.T) {
					t.Parallel()
					rollAndDie(t, kind, share+1, shares, &points)
				})
			}
		}
	})
	if points.Load() < 24 {
		t.Errorf("only %d points", points.Load())
	}
	t.Logf("%d points", points.Load())
}

func rollAndDie(t *testing.T, kind string, first, shares int, points *atomic.Int64) {
	h := newDANEHost(t, "mode: check", lab.Options{}).faster()
	other := "3 1 1 " + strings.Repeat("ab", 32)
	h.pass(report.CodeOK, renew)
	h.publish(other, h.record())
	h.edit("mode: check", publishing)
	h.pass(report.CodeOK, Options{Publish: true, Adopt: true})
	h.steady()
	e, watch := newExecutioner(h, kind), h.watchI4()
	n := first
	for ; e.kill(n, true); n += shares {
		when := fmt.Sprintf("%s, %d", kind, n)
		points.Add(1)
		h.intact(when, other)
		h.steady()
		h.intact(when, other)
		if got := h.published(); len(got) != 3 {
			t.Errorf("%s: in steady state the zone has %q", when, got)
		}
	}
	t.Logf("it lived through change %d", n)
	if shares == 1 {
		e.dieRetiring(points, other)
	}
	watch()
}

// dieRetiring kills passes at updates until the old record is gone and the next one is there.
func (e *executioner) dieRetiring(points *atomic.Int64, other string) {
	e.t.Helper()
	e.pass(report.CodeOK, Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}})
	deadline := time.Now().Add(patience)
	for killed := 0; killed < 3 && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if !e.kill(1, false) {
			if len(e.published()) == 3 && e.remembered().Keys[bundle.EC256].Retired == nil {
				break
			}
			continue
		}
		killed++
		points.Add(1)
		e.intact(e.kind+", retiring", other)
	}
	e.steady()
	e.intact(e.kind+", retired", other)
}

// The first publication is killed in the same way.
func TestKillFirstPublication(t *testing.T) {
	t.Parallel()
	var points atomic.Int64
	t.Run("points", func(t *testing.T) {
		for _, kind := range []string{beforeStore, afterStore, beforeUpdate, afterUpdate} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					h := newDANEHost(t, "mode: check", lab.Options{}).faster()
					h.pass(report.CodeOK, renew)
					h.edit("mode: check", publishing)
					e := newExecutioner(h, kind)
					if !e.kill(n, false) {
						break
					}
					points.Add(1)
					h.intact(fmt.Sprintf("%s, %d", kind, n), "")
					h.steady()
					if got := h.published(); len(got) != 2 {
						t.Errorf("%s, %d: in steady state the zone has %q", kind, n, got)
					}
				}
			})
		}
	})
	if points.Load() < 6 {
		t.Errorf("only %d points", points.Load())
	}
	t.Logf("%d points", points.Load())
}

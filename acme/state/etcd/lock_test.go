package etcd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// wait is how long a test waits for a lease of 2 s to end. etcd looks twice a second, and not before the end.
const wait = time.Minute

// TestLostLock: a holder that was cut off for longer than its lease changes nothing any more, until it gives the lock back.
func TestLostLock(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	line := cluster.Members[0].Line()
	cutOff := settings
	cutOff.Endpoints = []string{line.URL()}
	stale, next := open(t, cutOff), open(t, settings)
	apart := stale.Holder()
	unlock := lock(t, stale, "order/mx.lock")
	inner := lock(t, stale, "usage.lock")
	if err := stale.Replace("order/mx", []byte("stale, in time")); err != nil {
		t.Fatal(err)
	}
	line.Cut()
	again, both := lock(t, next, "order/mx.lock"), lock(t, next, "usage.lock")
	if err := next.Replace("order/mx", []byte("next")); err != nil {
		t.Fatal(err)
	}
	line.Heal()
	lease, err := stale.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	v, err := stale.Get(t.Context(), "order/mx")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"replace": func() error { return stale.Replace("order/mx", []byte("stale")) },
		"another": func() error { return stale.Replace("another", nil) },
		"swap":    func() error { _, err := stale.Swap(t.Context(), "order/mx", v.Revision, []byte("stale")); return err },
		"remove":  func() error { return stale.Remove("order/mx") },
		"rename":  func() error { return stale.Rename("order/mx", "order/gone") },
		"lend":    func() error { return stale.Lend(t.Context(), "order/mx", nil, lease) },
	} {
		if err := change(); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "lost the lock") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := apart.Replace("beside", nil); err != nil {
		t.Errorf("another holder on the same host: %v", err)
	}
	if value, err := next.Read("order/mx"); err != nil || string(value) != "next" {
		t.Errorf("%q, %v", value, err)
	}
	unlock()
	if err := stale.Replace("another", nil); !errors.Is(err, state.ErrLocked) {
		t.Errorf("the other lock was lost, too: %v", err)
	}
	inner()
	if err := stale.Replace("another", nil); err != nil {
		t.Errorf("after it gave the locks back: %v", err)
	}
	again()
	both()
}

func lock(t *testing.T, s state.Store, key string) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	unlock, err := s.Lock(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

// TestLockOutlivesItsLease: a holder that reaches etcd keeps its lock for as long as it likes, also beyond a restart of the member.
func TestLockOutlivesItsLease(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	settings.Lease = time.Second
	s, other := open(t, settings), open(t, settings)
	unlock := lock(t, s, "lock")
	time.Sleep(2 * time.Second)
	cluster.Members[0].Stop()
	cluster.Members[0].Start()
	time.Sleep(2 * time.Second)
	if _, err := other.Lock(ended(t), "lock"); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), `"mx1", since 20`) {
		t.Errorf("after four times its lease: %v", err)
	}
	if err := s.Replace("a", nil); err != nil {
		t.Error(err)
	}
	unlock()
	if unlock, err := other.Lock(t.Context(), "lock"); err != nil {
		t.Error(err)
	} else {
		unlock()
	}
}

// TestStoppedProcess: a process that is stopped by a signal in the middle of its work, and goes on when another one has done it, changes nothing.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	holder := start(t, settings)
	holder.expect("locked")
	holder.signal(syscall.SIGSTOP)
	next := open(t, settings)
	unlock := lock(t, next, "order/mx.lock")
	if err := next.Replace("order/mx", []byte("next")); err != nil {
		t.Fatal(err)
	}
	unlock()
	holder.signal(syscall.SIGCONT)
	holder.say("write")
	holder.expect("refused: true")
	if value, err := next.Read("order/mx"); err != nil || string(value) != "next" {
		t.Errorf("%q, %v", value, err)
	}
}

// TestKilledProcess: the lock of a process that was killed is free when its lease has ended.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	holder := start(t, settings)
	holder.expect("locked")
	holder.say("write")
	holder.expect("refused: false")
	holder.signal(syscall.SIGKILL)
	next := open(t, settings)
	lock(t, next, "order/mx.lock")()
	if value, err := next.Read("order/mx"); err != nil || string(value) != "stale" {
		t.Errorf("%q, %v", value, err)
	}
}

// process is this test program, run as a holder of a lock.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
}

const asHolder = "MXCERT_TEST_HOLDER"

func TestMain(m *testing.M) {
	etcdtest.Main()
	if place := os.Getenv(asHolder); place != "" {
		holdFor(strings.Split(place, " "))
		return
	}
	os.Exit(m.Run())
}

// holdFor takes a lock, and writes when it is told to.
func holdFor(place []string) {
	s, err := Open(Settings{Prefix: place[0], Endpoints: place[1:], Holder: "mx2", Lease: 2 * time.Second})
	if err == nil {
		_, err = s.Lock(context.Background(), "order/mx.lock")
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("locked")
	for told := bufio.NewScanner(os.Stdin); told.Scan(); {
		err := s.Replace("order/mx", []byte("stale"))
		if err != nil && !errors.Is(err, state.ErrLocked) {
			fmt.Println(err)
			return
		}
		fmt.Println("refused:", err != nil)
	}
}

func start(t *testing.T, s Settings) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), asHolder+"="+s.Prefix+" "+strings.Join(s.Endpoints, " "))
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.lines = in, bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) expect(line string) {
	p.t.Helper()
	if !p.lines.Scan() || p.lines.Text() != line {
		p.t.Fatalf("it says %q, not %q", p.lines.Text(), line)
	}
}

func (p *process) say(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

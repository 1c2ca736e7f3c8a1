package disk_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
)

// startHolder runs a second process that holds the lock of lineage mx.
func startHolder(t *testing.T, dir *state.Book) *exec.Cmd {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childEnv+"="+dir.Path())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return child
}

// TestLockExcludesProcesses: the wait ends with the context, and a process that is killed holds nothing.
func TestLockExcludesProcesses(t *testing.T) {
	dir := open(t)
	child := startHolder(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := dir.Lineage("mx").Lock(ctx)
	if !errors.Is(err, state.ErrLocked) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
		t.Fatalf("after %s: %v", time.Since(start), err)
	}
	if e, ok := errors.AsType[*state.Error](err); !ok || e.Kind() != "locked" || strings.Contains(e.Hint(), "configuration") || !strings.Contains(err.Error(), dir.Path()) {
		t.Errorf("kind %q, hint %q, %v", e.Kind(), e.Hint(), err)
	}
	for name, lock := range map[string]func(context.Context) (func(), error){"another lineage": dir.Lineage("mx2").Lock, "the directory": dir.Lock} {
		unlock, err := lock(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		unlock()
	}
	if err := child.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unlock, err := dir.Lineage("mx").Lock(ctx)
	if err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	unlock()
}

func TestLockExcludesGoroutines(t *testing.T) {
	l := open(t).Lineage("mx")
	first, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan func())
	go func() {
		second, err := l.Lock(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	select {
	case <-got:
		t.Fatal("two hold the lock")
	case <-time.After(60 * time.Millisecond):
	}
	first()
	(<-got)()
}

func TestOneDaemon(t *testing.T) {
	dir := open(t)
	unlock, err := dir.LockDaemon()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.LockDaemon(); !errors.Is(err, state.ErrLocked) {
		t.Errorf("a second daemon: %v", err)
	}
	unlock()
	if unlock, err = dir.LockDaemon(); err != nil {
		t.Fatal(err)
	}
	unlock()
}

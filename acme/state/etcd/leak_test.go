package etcd

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// TestNothingIsLeft: after Close no goroutine of the store or of its connection is left, also if the cluster went away in between; and nothing
// was written to standard error. It runs before the tests that run at once.
func TestNothingIsLeft(t *testing.T) {
	silent := stderr(t)
	cluster := etcdtest.Start(t, 1)
	settings := room(cluster)
	line := cluster.Members[0].Line()
	settings.Endpoints, settings.Patience = []string{line.URL()}, time.Second
	for _, key := range []string{"a/lock", "b/lock", "c/lock"} {
		s, err := Open(settings)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := s.Share(ctx, key); !errors.Is(err, state.ErrLocked) {
			t.Error(err)
		}
		cancel()
		watched := make(chan error)
		go func() { watched <- s.Watch(context.Background(), "a", 0, func([]state.Versioned) {}) }()
		line.Cut()
		_, err = s.Read("a/b")
		expectAway(t, "read", err, "")
		line.Heal()
		line.Hang()
		_, err = s.Read("a/b")
		expectAway(t, "read", err, "") // silence, or still the end of the connection before
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-watched
		line.Heal()
	}
	if left := stacks(t); left != "" {
		t.Errorf("goroutines that are left:\n%s", left)
	}
	if said := silent(); said != "" {
		t.Errorf("standard error has: %s", said)
	}
}

// stacks waits until no goroutine is left that is the client's, and returns those that are left after 10 s.
func stacks(t *testing.T) (left string) {
	t.Helper()
	for range 100 {
		all := make([]byte, 4<<20)
		all = all[:runtime.Stack(all, true)]
		var list []string
		for _, stack := range strings.Split(string(all), "\n\n")[1:] {
			ours := strings.Contains(stack, "mxcert/acme/state/etcd.(") || strings.Contains(stack, "clientv3") ||
				strings.Contains(stack, "grpc.(*ClientConn)") ||
				strings.Contains(stack, "grpc.(*addrConn)") || strings.Contains(stack, "newHTTP2Client")
			if ours && !strings.Contains(stack, "TestNothingIsLeft") {
				list = append(list, stack)
			}
		}
		if left = strings.Join(list, "\n\n"); left == "" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return left
}

// stderr catches what is written to standard error, by whoever has it open.
func stderr(t *testing.T) (said func() string) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	before, err := syscall.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(int(file.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	return func() string {
		if err := syscall.Dup3(before, 2, 0); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

package sdnotify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// manager listens where systemd would.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "notify") }

// receive returns the next message, or "" when there is none. It does not wait: what was sent is there.
func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buffer, n := make([]byte, 4096), 0
	var problem error
	err = raw.Control(func(fd uintptr) {
		n, _, problem = syscall.Recvfrom(int(fd), buffer, syscall.MSG_DONTWAIT)
	})
	if problem == syscall.EAGAIN {
		return ""
	}
	if err := errors.Join(err, problem); err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestMessages(t *testing.T) {
	for name, socket := range map[string]string{"path": socketPath(t), "abstract": "@mxcert-notify-" + strconv.Itoa(os.Getpid())} {
		t.Run(name, func(t *testing.T) {
			conn := manager(t, socket)
			for want, call := range map[string]func() error{
				"READY=1":                            Ready,
				"STOPPING=1":                         Stopping,
				"STATUS=next renewal in 3 d READY=0": func() error { return Status("next renewal in 3 d\r\nREADY=0\n") },
			} {
				if err := call(); err != nil {
					t.Error(err)
				}
				if got := receive(t, conn); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func TestReloadingTellsTheMonotonicTime(t *testing.T) {
	conn := manager(t, socketPath(t))
	var times []int64
	for range 2 {
		if err := Reloading(); err != nil {
			t.Fatal(err)
		}
		first, second, _ := strings.Cut(receive(t, conn), "\n")
		usec, err := strconv.ParseInt(strings.TrimPrefix(second, "MONOTONIC_USEC="), 10, 64)
		if first != "RELOADING=1" || err != nil || usec <= 0 {
			t.Fatalf("got %q, %q", first, second)
		}
		times = append(times, usec)
	}
	if d := times[1] - times[0]; d < 0 || d > 10_000_000 {
		t.Errorf("the clock went on by %d µs", d)
	}
}

func TestWithoutSystemdNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000000")
	for _, call := range []func() error{Ready, Reloading, Stopping, func() error { return Status("x") }} {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	if interval, on := Watchdog(); on {
		t.Errorf("a watchdog of %s without a socket", interval)
	}
	new(Feeder).Run(context.Background()) // returns
}

func TestSystemdIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", socketPath(t))
	if err := Ready(); err == nil || !strings.Contains(err.Error(), "READY on NOTIFY_SOCKET") {
		t.Errorf("got %v", err)
	}
}

func TestSystemdIsBusy(t *testing.T) {
	path := socketPath(t)
	manager(t, path)   // never reads
	for range 10_000 { // net.unix.max_dgram_qlen is 10 or some hundred
		if err := write(path, "STATUS=x", 20*time.Millisecond); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			return
		}
	}
	t.Error("the queue never fills up")
}

func TestWatchdog(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"30000000", self, 30 * time.Second},
		{"30000000", "", 30 * time.Second},
		{"30000000", "1", 0},
		{"", self, 0},
		{"0", self, 0},
		{"-5", self, 0},
		{"soon", self, 0},
		{"9223372036854775807", self, 0},
	} {
		t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		if got, on := Watchdog(); got != test.want || on != (test.want > 0) {
			t.Errorf("USEC=%s PID=%s: got %s, %t", test.usec, test.pid, got, on)
		}
	}
}

func TestFeederFeedsOnlyWhileThereIsWork(t *testing.T) {
	conn := manager(t, socketPath(t))
	t.Setenv("WATCHDOG_USEC", "40000000")
	t.Setenv("WATCHDOG_PID", "")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var f Feeder
		go f.Run(ctx)
		for i, work := range []bool{false, true, true, false, false, true} {
			if work {
				f.Beat()
				f.Beat()
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			want := ""
			if work {
				want = "WATCHDOG=1"
			}
			if got := receive(t, conn); got != want {
				t.Errorf("look %d: got %q, want %q", i+1, got, want)
			}
		}
		cancel()
		synctest.Wait()
	})
}

func TestFeederTriesAgain(t *testing.T) {
	path := socketPath(t)
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "40000000")
	t.Setenv("WATCHDOG_PID", "")
	var conn *net.UnixConn
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var f Feeder
		go f.Run(ctx)
		f.Beat()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		conn = manager(t, path)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	})
}

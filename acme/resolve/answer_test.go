package resolve

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestSystemServers(t *testing.T) {
	for content, want := range map[string][]string{
		"nameserver 192.0.2.1\nnameserver 2001:db8::1\n": {"192.0.2.1:53", "[2001:db8::1]:53"},
		"search example.org\n":                           {"127.0.0.1:53"},
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := systemServers(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q", content, got)
		}
	}
	if got := systemServers("/nonexistent"); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("no file: %q", got)
	}
	if r := New(nil); len(r.Servers()) == 0 {
		t.Error("no server at all")
	}
}

func TestUnreachable(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT} {
		if !unreachable(&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", errno)}) {
			t.Errorf("%v: a host without IPv6 says so", errno)
		}
	}
	for _, err := range []error{syscall.ECONNREFUSED, os.ErrDeadlineExceeded, errors.New("x"), nil} {
		if unreachable(err) {
			t.Errorf("%v: the server is at fault, not the route", err)
		}
	}
}

// TestPauses: what appears is noticed within half a second, and a server that is down for long is not pestered.
func TestPauses(t *testing.T) {
	pause, at, longest := firstPause, time.Duration(0), time.Duration(0)
	questions := 0
	for ; at < 5*time.Minute; questions++ {
		at += pause
		if pause = nextPause(pause, at); at < 8*time.Second && pause > 450*time.Millisecond {
			t.Errorf("after %s the pause is %s", at, pause)
		}
		if pause > max(450*time.Millisecond, at/15) {
			t.Errorf("after %s the pause is %s, longer than a fifteenth of that", at, pause)
		}
		longest = max(longest, pause)
	}
	if longest != longPause || questions > 150 {
		t.Errorf("%d questions in five minutes, the longest pause %s", questions, longest)
	}
}

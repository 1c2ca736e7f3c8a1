package helper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
)

// asService does something with the access to files that the service has: it may ask the helpers, and may not read the mail server's keys.
func (h *host) asService(do func()) {
	h.t.Helper()
	if os.Geteuid() != 0 {
		h.t.Skip("only root can give up the access to files")
	}
	const user = 65534
	for _, path := range []string{filepath.Dir(h.dir), h.dir, h.path("tls"), h.client.Directory} {
		h.check(os.Chmod(path, 0o755)) //nolint:gosec // the user has to pass
	}
	for _, kind := range []Kind{Install, Hook} {
		h.check(os.Chown(filepath.Join(h.client.Directory, string(kind)+".sock"), user, -1))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(id uintptr) {
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSGID, id, 0, 0)
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, id, 0, 0)
	}
	defer become(0)
	become(user)
	do()
}

// A Looker that may not read a key has the helper compare it, over one connection for all certificates.
func TestLooker(t *testing.T) {
	h := newHost(t)
	ca := issuer.New(t)
	b := ca.Issue(t, life, "mx.example.org")
	h.check(h.plan(b).Apply(nil))
	want := h.want()
	h.asService(func() {
		if _, err := (&Looker{}).Look(t.Context(), want, []*bundle.Bundle{b}, nil); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("without a helper: %v", err)
		}
		files := h.client.Looker()
		if found, err := files.Look(t.Context(), want, []*bundle.Bundle{b}, nil); err != nil || !found.Empty() {
			t.Errorf("what was deployed differs: %+v, %v", found, err)
		}
		first := files.conn
		if found, err := files.Look(t.Context(), want, []*bundle.Bundle{ca.Issue(t, life, "mx.example.org")}, nil); err != nil || len(found.Changes) != 2 {
			t.Errorf("another certificate: %+v, %v", found, err)
		}
		if first == nil || files.conn != first {
			t.Error("the second look has its own helper")
		}
		files.Close()
	})
}

// If there is no helper to ask, a Looker says so, once and for all certificates.
func TestLookerWithoutAnswer(t *testing.T) {
	h := newHost(t)
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	h.check(h.plan(b).Apply(nil))
	want := h.want()
	h.check(os.Remove(filepath.Join(h.client.Directory, "install.sock")))
	h.check(os.WriteFile(filepath.Join(h.client.Directory, "install.sock"), nil, 0o600))
	h.asService(func() {
		files := h.client.Looker()
		for range 2 {
			if _, err := files.Look(t.Context(), want, []*bundle.Bundle{b}, nil); err == nil || err.(interface{ Kind() string }).Kind() != Failed {
				t.Errorf("%v", err)
			}
		}
		files.Close()
	})
}

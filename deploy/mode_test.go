package deploy_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"mxcert/deploy"
)

// TestModes: what is configured, else what was there; a key is never for everybody.
func TestModes(t *testing.T) {
	for _, tt := range []struct {
		what                   string
		configured             fs.FileMode
		oldCertificate, oldKey fs.FileMode // 0: there was none
		certificate, key       fs.FileMode
	}{
		{"new files", 0, 0, 0, 0o640, 0o640},
		{"new files, configured", 0o400, 0, 0, 0o400, 0o400},
		{"those of the old files", 0, 0o644, 0o600, 0o644, 0o600},
		{"the key was for everybody", 0, 0o644, 0o644, 0o644, 0o640},
		{"old files, configured", 0o640, 0o644, 0o600, 0o640, 0o640},
		{"one is new", 0, 0o444, 0, 0o444, 0o640},
	} {
		t.Run(tt.what, func(t *testing.T) {
			target := pair(t.TempDir())
			target.Mode = tt.configured
			for path, mode := range map[string]fs.FileMode{target.Certificate: tt.oldCertificate, target.PrivateKey: tt.oldKey} {
				if mode != 0 {
					write(t, path, "old", mode)
				}
			}
			p := plan(t, fresh(t, 1), target)
			if err := p.Apply(keepNothing); err != nil {
				t.Fatal(err)
			}
			if mode(t, target.Certificate) != tt.certificate || mode(t, target.PrivateKey) != tt.key {
				t.Errorf("certificate %04o, key %04o, want %04o and %04o", mode(t, target.Certificate), mode(t, target.PrivateKey), tt.certificate, tt.key)
			}
			if err := p.Revert(); err != nil {
				t.Fatal(err)
			}
			for path, old := range map[string]fs.FileMode{target.Certificate: tt.oldCertificate, target.PrivateKey: tt.oldKey} {
				if old != 0 && mode(t, path) != old {
					t.Errorf("after the way back %s has mode %04o, want %04o", path, mode(t, path), old)
				}
			}
		})
	}
}

// accessEntry is one line of an access list as xattr(7) holds it: tag, rights, user or group.
func accessEntry(tag, rights uint16, id uint32) []byte {
	return []byte{byte(tag), byte(tag >> 8), byte(rights), byte(rights >> 8), byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)}
}

// TestLabels: a file that is replaced is a new one; what an administrator or the policy has set goes with it.
func TestLabels(t *testing.T) {
	needRoot(t, "set labels")
	list := []byte{2, 0, 0, 0}
	for _, entry := range [][]byte{accessEntry(1, 6, ^uint32(0)), accessEntry(2, 4, 12345), accessEntry(4, 4, ^uint32(0)), accessEntry(0x10, 4, ^uint32(0)), accessEntry(0x20, 0, ^uint32(0))} {
		list = append(list, entry...)
	}
	label := []byte("system_u:object_r:cert_t:s0\x00")
	target := combined(t.TempDir())
	target.Mode = 0
	first := fresh(t, 1)
	apply(t, first, target)
	for name, value := range map[string][]byte{"security.selinux": label, "system.posix_acl_access": list} {
		err := unix.Setxattr(target.Combined, name, value, 0)
		if errors.Is(err, unix.ENOTSUP) {
			t.Skipf("this file system has no %s", name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := plan(t, renewed(t, first, 2), target)
	for _, step := range []func() error{func() error { return p.Apply(keepNothing) }, p.Revert} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{"security.selinux": label, "system.posix_acl_access": list} {
			got := make([]byte, 1000)
			n, err := unix.Getxattr(target.Combined, name, got)
			if err != nil || string(got[:n]) != string(want) {
				t.Errorf("%s is %q, %v; want %q", name, got[:max(n, 0)], err, want)
			}
		}
		if mode(t, target.Combined) != 0o640 {
			t.Errorf("mode %04o", mode(t, target.Combined))
		}
	}
}

// TestPipe: no process writes into the pipe, so that reading it would never end.
func TestPipe(t *testing.T) {
	target := combined(t.TempDir())
	if err := unix.Mkfifo(target.Combined, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := tryPlan(fresh(t, 1), target)
	refused(t, err, target.Combined, "refused", "not a regular file", "another path")
	if err := os.Remove(target.Combined); err != nil {
		t.Fatal(err)
	}
	if err := deploy.Check([]deploy.Target{target}, nil); err != nil {
		t.Error(err)
	}
}

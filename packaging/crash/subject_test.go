//go:build linux && amd64

package crash

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/deploy"
	"mxcert/packaging/crash/operation"
)

// subject is one operation on files, and how to judge what it leaves.
type subject struct {
	name     string
	store    bool                             // the store changes, not the mail server's files
	careless bool                             // not mxcert's way
	window   bool                             // certificate and key are exchanged by two renames
	stapled  bool                             // the last rename is that of an OCSP response
	first    bool                             // there was nothing before
	aim      string                           // what see finds in the end: "new", or "old" after a rollback
	spec     func(root string) operation.Spec // for the victim
	setup    func(root string) error          // makes what was there before, below an empty directory
	see      func(root string) sight          // looks at the files as their reader does
	again    func(root string) error          // the next start
}

// sight is what a reader finds.
type sight struct {
	state string   // old, new, none, mixed (several targets, each of them in order), broken
	why   string   // it is broken
	open  []string // private keys that too many may read
	left  []string // temporary files
}

func (s sight) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", s.state, s.why))
}

// deployments are all operations on all layouts. A part does without those that make the same calls as others.
func deployments(b bundles) []*subject {
	var list []*subject
	for _, l := range operation.Layouts() {
		if l.Also && !all() {
			continue
		}
		list = append(list, deployment(b, l.Name, operation.Deploy, b.old, b.rekeyed))
		if l.Careless == nil || all() {
			list = append(list, deployment(b, l.Name, operation.Deploy, "", b.old), deployment(b, l.Name, operation.Revert, b.old, b.rekeyed))
		}
		if l.Exchanges || all() {
			list = append(list, deployment(b, l.Name, operation.Deploy, b.old, b.renewed), deployment(b, l.Name, operation.Revert, b.old, b.renewed))
		}
	}
	return list
}

func deployment(b bundles, layoutName, action, old, next string) *subject {
	layout, err := operation.Find(layoutName)
	if err != nil {
		panic(err)
	}
	s := &subject{
		careless: layout.Careless != nil, first: old == "", aim: "new",
		window: layout.Exchanges && next == b.rekeyed, stapled: layout.Staple != nil,
		spec: func(root string) operation.Spec {
			return operation.Spec{Action: action, Layout: layoutName, Root: root, Old: old, New: next}
		},
		setup: func(root string) error {
			for _, dir := range []string{"tls", "tls/other", "tls/sni", "state"} {
				if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
					return err
				}
			}
			if old == "" {
				return nil
			}
			return inProcess(operation.Spec{Action: operation.Deploy, Layout: layoutName, Root: root, New: old})
		},
		see: func(root string) sight {
			return look(layout, root, old == "", map[string]*bundle.Bundle{"old": b.parsed[old], "new": b.parsed[next]})
		},
	}
	what := map[string]string{b.old: "first", b.renewed: "same key", b.rekeyed: "new key"}[next]
	aim := next
	if action == operation.Revert {
		what, s.aim, aim = "back, "+what, "old", old
	}
	s.name = layoutName + ": " + what
	s.again = func(root string) error {
		spec := operation.Spec{Action: operation.Deploy, Layout: layoutName, Root: root, New: aim}
		if err := errors.Join(age(root), inProcess(spec)); err != nil {
			return err
		}
		return state.New(disk.At(spec.State())).Lineage(operation.Name).Prune(state.Record{}, 3) // as every pass ends
	}
	return s
}

func inProcess(spec operation.Spec) error {
	work, err := spec.Prepare()
	if err != nil {
		return err
	}
	return work()
}

// look opens the configured paths one after the other, as a mail server does.
func look(layout operation.Layout, root string, first bool, known map[string]*bundle.Bundle) sight {
	dir := filepath.Join(root, "tls")
	s := sight{open: openKeys(root), left: temporary(root)}
	certificates, keys := layout.Reads(dir)
	for i := range certificates {
		state, why := lookAtPair(certificates[i], keys[i], known)
		if state == "none" && !first {
			state, why = "broken", "a file is missing"
		}
		switch {
		case state == "broken":
			s.state, s.why = state, why
			return s
		case s.state == "" || s.state == state:
			s.state = state
		default:
			s.state = "mixed"
		}
	}
	if layout.Staple != nil {
		s.lookAtStaple(layout.Staple(dir), known)
	}
	return s
}

// lookAtStaple wants the OCSP response to be of the certificate in place, or missing: Exim refuses TLS with the response of another one.
func (s *sight) lookAtStaple(path string, known map[string]*bundle.Bundle) {
	text, err := readAsServer(path)
	switch b := known[s.state]; {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.state, s.why = "broken", err.Error()
	case b == nil && s.state == "none":
		s.state, s.why = "broken", "there is an OCSP response of no certificate"
	case b != nil && !bytes.Equal(text, operation.StapleOf(b.Serial())):
		s.state, s.why = "broken", fmt.Sprintf("the OCSP response is %q", text)
	case b != nil: // Exim looks whether it exists, and opens the copy
		if served, err := readAsServer(path + deploy.ServedSuffix); err != nil || !bytes.Equal(served, text) {
			s.state, s.why = "broken", fmt.Sprintf("the copy of the OCSP response is %q, %v", served, err)
		}
	}
}

// lookAtPair says none where the server has no certificate, as before the first deployment.
func lookAtPair(certificate, key string, known map[string]*bundle.Bundle) (state, why string) {
	chain, err := readAsServer(certificate)
	secret, keyErr := readAsServer(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(keyErr, fs.ErrNotExist) {
		return "none", ""
	}
	if err := errors.Join(err, keyErr); err != nil {
		return "broken", err.Error()
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return "broken", err.Error()
	}
	if why := errors.Join(permitted(certificate), permitted(key)); why != nil {
		return "broken", why.Error()
	}
	for state, b := range known {
		if b != nil && same(pair.Certificate, b) {
			return state, ""
		}
	}
	return "broken", "neither the old nor the new chain"
}

// readAsServer reads a file as a user who is in the group and nothing else, by the file system's IDs of a thread
// (setfsuid(2)), where root can do that.
func readAsServer(path string) ([]byte, error) {
	if os.Geteuid() != 0 {
		return os.ReadFile(path)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const server = operation.Owner + 1
	defer func() {
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
		_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSGID, 0, 0, 0)
	}()
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSGID, operation.Group, 0, 0)
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, server, 0, 0)
	return os.ReadFile(path)
}

func same(chain [][]byte, b *bundle.Bundle) bool {
	want := b.Chain()
	if len(chain) != len(want) {
		return false
	}
	for i := range want {
		if !bytes.Equal(chain[i], want[i].Raw) {
			return false
		}
	}
	return true
}

// permitted checks owner, group and mode, without which the server cannot read a file, or others can.
func permitted(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm() != operation.Mode || os.Geteuid() == 0 && (stat.Uid != operation.Owner || stat.Gid != operation.Group) {
		return fmt.Errorf("%s has mode %04o, owner %d:%d", filepath.Base(path), info.Mode().Perm(), stat.Uid, stat.Gid)
	}
	return nil
}

// openKeys lists files with private keys that others than the owner and the server's group may read.
func openKeys(root string) (open []string) {
	_ = filepath.Walk(root, func(path string, info fs.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		stat, _ := info.Sys().(*syscall.Stat_t)
		wide := info.Mode().Perm()&^operation.Mode != 0 || info.Mode().Perm()&0o040 != 0 && os.Geteuid() == 0 && stat.Gid != operation.Group
		if text, err := os.ReadFile(path); wide && err == nil && bytes.Contains(text, []byte("PRIVATE KEY")) {
			open = append(open, strings.TrimPrefix(path, root))
		}
		return nil
	})
	return open
}

// temporary lists what should be gone: what mxcert stages begins with a dot, and a generation is whole.
func temporary(root string) (left []string) {
	_ = filepath.Walk(root, func(path string, _ fs.FileInfo, err error) error {
		name := filepath.Base(path)
		half := strings.HasSuffix(filepath.Dir(path), ".generations") && !whole(path)
		if path != root && (strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".new") || half) {
			left = append(left, strings.TrimPrefix(path, root))
		}
		return err
	})
	return left
}

// whole reports whether a generation of files is complete.
func whole(dir string) bool {
	_, err := tls.LoadX509KeyPair(filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem"))
	_, otherErr := tls.LoadX509KeyPair(filepath.Join(dir, "combined.pem"), filepath.Join(dir, "combined.pem"))
	return err == nil && otherErr == nil
}

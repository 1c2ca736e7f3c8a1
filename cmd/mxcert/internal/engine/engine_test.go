//go:build !nofleet

package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"go.etcd.io/etcd/server/v3/embed"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/state/etcd/etcdtest"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// town is a cluster that asks for client certificates, and a host with its files.
type town struct {
	t                                 *testing.T
	roots, identity, certificate, key string // paths
	config                            string // likewise
}

func newTown(t *testing.T) *town {
	t.Helper()
	ca, dir := etcdtest.NewCA(t), t.TempDir()
	certificate, key := ca.Files(dir, "etcd", etcdtest.Valid())
	cluster := etcdtest.Start(t, 1, func(c *embed.Config) {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = certificate, key
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ca.File(dir), true
	})
	own, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, roots: ca.File(t.TempDir()), identity: filepath.Join(dir, "age")}
	w.certificate, w.key = ca.Files(t.TempDir(), "mx1", etcdtest.Valid())
	w.put(w.identity, own.String()+"\n")
	w.config = filepath.Join(dir, "mxcert.yaml")
	w.put(w.config, fmt.Sprintf(`acme: {agree_tos: true, directory: "https://127.0.0.1:1/directory"}
dns: {provider: exec, env: {EXEC_PATH: /bin/true}}
certificates: [{name: mx, domains: [mx.example.org], verify: {endpoints: []}, deploy: [{files: {combined: /nonexistent/mx.pem}}]}]
fleet: {name: berlin, host: mx1, identity: "file:%s", recipients: [%s], etcd: {endpoints: [%q], ca_file: %s, certificate: %s, private_key: %s}}
`, w.identity, own.Recipient(), cluster.Endpoints()[0], w.roots, w.certificate, w.key))
	return w
}

// of is the fleet as a process finds it that has just started.
func (w *town) of() *wanted.Fleet {
	w.t.Helper()
	config, err := configs.Load(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	host, err := wanted.From(config)
	if err := errors.Join(err, wanted.Check(config)); err != nil {
		w.t.Fatal(err)
	}
	return host.Fleet
}

func (w *town) put(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// Each file that a host needs for its fleet may be missing, or something else, when it joins: the store is away with that as the reason, nothing says
// that a value is missing there, and the same member takes part as soon as the file is in order.
func TestFilesThatComeLater(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	for what, file := range map[string]struct{ path, says string }{
		"the identity":           {w.identity, "fleet.identity: "},
		"the CA of etcd":         {w.roots, "fleet.etcd.ca_file: "},
		"the client certificate": {w.certificate, "fleet.etcd.certificate: "},
		"the client key":         {w.key, "fleet.etcd."},
	} {
		text, err := os.ReadFile(file.path)
		if err != nil {
			t.Fatal(err)
		}
		for how, damage := range map[string]func() error{
			"missing":     func() error { return os.Remove(file.path) },
			"a directory": func() error { return errors.Join(os.Remove(file.path), os.Mkdir(file.path, 0o700)) },
			"a pipe":      func() error { return errors.Join(os.Remove(file.path), syscall.Mkfifo(file.path, 0o600)) },
			"empty":       func() error { return os.WriteFile(file.path, nil, 0o600) },
			"garbage":     func() error { return os.WriteFile(file.path, []byte("garbage\n"), 0o600) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			w.later(what+", "+how, file.says, func() {
				if err := errors.Join(os.RemoveAll(file.path), os.WriteFile(file.path, text, 0o600)); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// later joins, wants the reason, and repairs.
func (w *town) later(what, says string, repair func()) {
	w.t.Helper()
	files, err := disk.Open(filepath.Join(w.t.TempDir(), "state"))
	if err != nil {
		w.t.Fatal(err)
	}
	member, closeStore, err := Join(w.of(), Process{Release: "test"}, files, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	_, err = member.Take(ctx, "mx", bundle.EC256)
	if !errors.Is(err, state.ErrAway) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), says) {
		w.t.Errorf("%s: %v, want %q", what, err, says)
	}
	if health := member.Health(); health.Up || health.Hint == "" || !strings.Contains(health.Reason, says) || strings.Contains(health.Reason+health.Hint, "garbage") {
		w.t.Errorf("%s: %+v", what, health)
	}
	repair()
	if err := member.Join(ctx); err != nil || !member.Health().Up {
		w.t.Errorf("%s, repaired: %v, %+v", what, err, member.Health())
	}
	if err := closeStore(); err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

// A holder of locks of a store that could not be opened yet works with it once it can be; a store that was closed stays so.
func TestLate(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	of, missing := w.of(), errors.New("it is not there")
	ready := false
	l := &late{open: func() (state.Shared, error) {
		if !ready {
			return nil, missing
		}
		return open(of, Prefix("berlin"))
	}}
	holder, other := l.Holder(), l.Holder()
	for what, err := range map[string]error{
		"a store": l.Replace("x", nil), "a holder": holder.Replace("x", nil), "closed": other.Close(),
	} {
		if closed := what == "closed"; closed && err != nil || !closed && (!errors.Is(err, state.ErrAway) || !strings.Contains(err.Error(), missing.Error())) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ready = true
	unlock, err := holder.Lock(t.Context(), "lock/x")
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Replace("x", []byte("1")); err != nil {
		t.Error(err)
	}
	unlock()
	if v, err := l.Get(t.Context(), "x"); err != nil || string(v.Value) != "1" {
		t.Errorf("%s, %v", v.Value, err)
	}
	if _, err := l.Get(t.Context(), "y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a value that the store does not have: %v", err)
	}
	if err := errors.Join(holder.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{"a store": l.Replace("x", nil), "a holder": holder.Replace("x", nil), "a holder that was never used": other.Replace("x", nil)} {
		if err == nil {
			t.Errorf("%s that was closed accepts changes", what)
		}
	}
}

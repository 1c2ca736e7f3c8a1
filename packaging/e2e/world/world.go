// Package world makes two hosts that are joined by a cable and know nothing else: "sender" and "receiver", each a network namespace with
// documentation addresses (RFC 5737, RFC 3849) and with root trees of Debian, from which a test runs real programs. With them comes a DNS
// world: a root, two TLDs and zones signed by the test, served by BIND and Knot on the receiver, and Unbound validating on 127.0.0.1:53 of
// the sender.
//
// Nothing of it is seen outside, so that tests run beside each other. It ends with the test, also if the test is killed.
//
// It needs root and the packages that packaging/e2e/roottree.sh installs. It has no systemd: see mailhost for a whole host.
package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// Addresses of the hosts. More are added by Host.AddAddress.
const (
	SenderIPv4   = "192.0.2.10"
	SenderIPv6   = "2001:db8:1::10"
	ReceiverIPv4 = "198.51.100.25"
	ReceiverIPv6 = "2001:db8:2::25"
)

// link is the name of the cable's end in each host.
const link = "net0"

// startTimeout bounds the start of a world whose root trees are there.
const startTimeout = 60 * time.Second

// A World is a sender and a receiver that reach each other.
type World struct {
	Sender, Receiver *Host
	Release          mailhost.Release
}

// Start makes a world, and ends it with the test. The zero release is that of MXCERT_E2E_RELEASE, or Debian 12.
func Start(t testing.TB, release mailhost.Release) *World {
	t.Helper()
	began := time.Now()
	w := &World{Release: cmp.Or(release, mailhost.DefaultRelease())}
	paths, err := rootTrees(t.Context(), w.Release, trees...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	if err := w.start(t.Context(), paths); err != nil {
		t.Fatal(err)
	}
	t.Logf("a world of %s: %v", w.Release, time.Since(began).Round(time.Millisecond))
	return w
}

func rootTrees(ctx context.Context, release mailhost.Release, trees ...Tree) (map[Tree]string, error) {
	paths := map[Tree]string{}
	for _, t := range trees {
		path, err := mailhost.RootTree(ctx, string(t), release)
		if err != nil {
			return nil, err
		}
		paths[t] = path
	}
	return paths, nil
}

func (w *World) start(ctx context.Context, paths map[Tree]string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	run, err := runDirectory(paths[Postfix])
	if err != nil {
		return err
	}
	for name, host := range map[string]**Host{"sender": &w.Sender, "receiver": &w.Receiver} {
		k, err := startKeeper(ctx, name, run, paths)
		if err != nil {
			return err
		}
		*host = (&Host{Name: name, keeper: k}).In(Postfix)
	}
	return w.connect(ctx)
}

// runDirectory makes the directory over which hosts mount their root trees.
func runDirectory(tree string) (string, error) {
	run := filepath.Join(filepath.Dir(tree), "world")
	return run, os.MkdirAll(run, 0o755)
}

// Alone makes one host with one root tree and without a cable, for a world that the test lays out itself, and ends it with the test.
func Alone(t testing.TB, name string, tree Tree) *Host {
	t.Helper()
	paths, err := rootTrees(t.Context(), mailhost.DefaultRelease(), tree)
	if err != nil {
		t.Fatal(err)
	}
	run, err := runDirectory(paths[tree])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	k, err := startKeeper(ctx, name, run, paths)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.end)
	return (&Host{Name: name, keeper: k}).In(tree)
}

// connect lays the cable. Its ends are made where they belong: their names meet no others.
func (w *World) connect(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ip", "link", "add", "name", link, "netns", fmt.Sprint(w.Sender.PID()),
		"type", "veth", "peer", "name", link, "netns", fmt.Sprint(w.Receiver.PID())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the veth pair: %w: %s", err, out)
	}
	return errors.Join(w.Sender.attach(SenderIPv4+"/24", SenderIPv6+"/64"), w.Receiver.attach(ReceiverIPv4+"/24", ReceiverIPv6+"/64"))
}

// attach sets the host's end of the cable up. All that the host does not have itself is at the other end.
func (h *Host) attach(prefixes ...string) error {
	err := h.network("link", "set", link, "up")
	for _, prefix := range prefixes {
		err = errors.Join(err, h.AddAddress(prefix))
	}
	return errors.Join(err, h.network("route", "add", "default", "dev", link), h.network("-6", "route", "add", "default", "dev", link))
}

func (w *World) end() {
	for _, h := range []*Host{w.Sender, w.Receiver} {
		if h != nil {
			h.keeper.end()
		}
	}
}

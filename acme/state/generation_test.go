package state_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func TestGenerationKeepsTheBundle(t *testing.T) {
	l := open(t).Lineage("mx")
	b := newBundle(t, bundle.EC256, 0xabc)
	g := add(t, l, b, 7)
	read, err := l.Bundle(g.ID)
	if err != nil || !read.Same(b) || string(read.KeyPEM()) != string(b.KeyPEM()) {
		t.Fatalf("another bundle came back: %v", err)
	}
	for name, want := range map[string][]byte{"privkey.pem": b.KeyPEM(), "fullchain.pem": b.FullchainPEM(), "cert.pem": b.LeafPEM(), "chain.pem": b.ChainPEM()} {
		if got, err := os.ReadFile(filepath.Join(l.Directory(g.ID), name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	meta, err := l.Generation(g.ID)
	if err != nil || meta.Serial != "0abc" || meta.Key != bundle.EC256 || meta.SPKI != b.SPKI() || !meta.NotAfter.Equal(b.NotAfter()) ||
		meta.Order != "https://ca.example/order/7" || meta.Directory != "https://ca.example/dir" || !slices.Equal(meta.Names, []string{"mx.example.org"}) {
		t.Errorf("description: %+v, %v", meta, err)
	}
}

// TestDescriptionIsMadeAgain: certificate and key are there, so a lost note about them costs no order.
func TestDescriptionIsMadeAgain(t *testing.T) {
	for name, damage := range map[string]func(meta, other string) error{
		"empty":                 func(meta, _ string) error { return os.WriteFile(meta, nil, 0o600) },
		"half":                  func(meta, _ string) error { return os.WriteFile(meta, []byte(`{"version": 1, "id": "`), 0o600) },
		"missing":               func(meta, _ string) error { return os.Remove(meta) },
		"a link":                func(meta, other string) error { return errors.Join(os.Remove(meta), os.Symlink(other, meta)) },
		"a directory":           func(meta, _ string) error { return errors.Join(os.Remove(meta), os.Mkdir(meta, 0o700)) },
		"that of another":       func(meta, other string) error { return errors.Join(os.Remove(meta), os.Link(other, meta)) },
		"without what it is of": func(meta, _ string) error { return os.WriteFile(meta, []byte(`{"version": 1}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t).Lineage("mx")
			old, g := add(t, l, newBundle(t, bundle.RSA2048, 1), 1), add(t, l, newBundle(t, bundle.EC256, 2), 2)
			record := state.Record{Keys: map[bundle.KeyType]*state.Slot{bundle.EC256: {Current: g.ID}, bundle.RSA2048: {Current: old.ID}}}
			meta := filepath.Join(l.Directory(g.ID), "meta.json")
			if err := errors.Join(l.Save(record), damage(meta, filepath.Join(l.Directory(old.ID), "meta.json"))); err != nil {
				t.Fatal(err)
			}
			want := g
			want.Directory, want.Order, want.Created = state.UnknownCA, "", g.Created.Truncate(time.Millisecond)
			if got, err := l.Generation(g.ID); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v\nwant %+v", got, err, want)
			}
			if got := ids(t, l); !slices.Equal(got, []string{old.ID, g.ID}) {
				t.Errorf("generations: %q", got)
			}
			if _, repaired, err := l.Look(); err != nil || repaired != meta+" is missing or damaged; this was read from the certificate beside it" {
				t.Errorf("a look: %q, %v", repaired, err)
			}
			if _, repaired, err := l.Load(); err != nil || repaired != meta+" was missing or damaged; it was made again from the certificate beside it, which does not say which CA issued it" {
				t.Errorf("repaired: %q, %v", repaired, err)
			}
			if _, repaired, err := l.Load(); err != nil || repaired != "" {
				t.Errorf("repaired again: %q, %v", repaired, err)
			}
			if got, err := l.Generation(g.ID); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("afterwards: %+v, %v", got, err)
			}
		})
	}
}

// TestOnlyGenerationsAreDescribed: a folder that somebody has copied is none, and without certificate and key there is nothing to say.
func TestOnlyGenerationsAreDescribed(t *testing.T) {
	l := open(t).Lineage("mx")
	g, lost := add(t, l, newBundle(t, bundle.EC256, 1), 1), add(t, l, newBundle(t, bundle.EC256, 2), 2)
	for _, name := range []string{g.ID + ".bak", "old"} {
		if err := os.CopyFS(filepath.Join(filepath.Dir(l.Directory(g.ID)), name), os.DirFS(l.Directory(g.ID))); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Generation(name); err == nil {
			t.Errorf("%s is a generation: %+v", name, got)
		}
	}
	write(t, "", l.Directory(lost.ID), "meta.json")
	write(t, "", l.Directory(lost.ID), "privkey.pem")
	if _, err := l.Generation(lost.ID); !errors.Is(err, state.ErrDamaged) {
		t.Errorf("without a key: %v", err)
	}
	if got := ids(t, l); !slices.Equal(got, []string{g.ID}) {
		t.Errorf("generations: %q", got)
	}
}

// TestGenerationsAreUnique: not even two of the same instant share a directory.
func TestGenerationsAreUnique(t *testing.T) {
	l := open(t).Lineage("mx")
	b, at := newBundle(t, bundle.EC256, 1), time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := l.Add(b, b.Leaf().DNSNames, "", "", at); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := ids(t, l); len(got) != 8 || len(slices.Compact(got)) != 8 {
		t.Errorf("generations: %q", got)
	}
}

func TestHalfMadeGenerationsAreIgnoredAndPruned(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	g := add(t, l, newBundle(t, bundle.EC256, 1), 1)
	base := filepath.Join(dir.Path(), "lineages", "mx")
	half := filepath.Join(base, ".new-20260101T000000000Z-00000000")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	key := write(t, "key", half, "privkey.pem")
	temporary := write(t, "half a record with", base, ".tmp-12345")
	if got := ids(t, l); !slices.Equal(got, []string{g.ID}) {
		t.Errorf("generations: %q", got)
	}
	if err := l.Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{key, half, temporary} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if got := ids(t, l); !slices.Equal(got, []string{g.ID}) {
		t.Errorf("generations after pruning: %q", got)
	}
}

func TestPruneKeepsWhatIsInUse(t *testing.T) {
	l := open(t).Lineage("mx")
	ec, rsa := newBundle(t, bundle.EC256, 1), newBundle(t, bundle.RSA2048, 2)
	var e, r []string
	for i := range 7 {
		e = append(e, add(t, l, ec, 2*i).ID)
		r = append(r, add(t, l, rsa, 2*i+1).ID)
	}
	record := state.Record{Keys: map[bundle.KeyType]*state.Slot{bundle.EC256: {Current: e[0], Served: e[1], Previous: e[2]}, bundle.RSA2048: {Current: r[6]}, bundle.EC384: nil}}
	if err := l.Prune(record, 2); err != nil {
		t.Fatal(err)
	}
	want := []string{e[0], e[1], e[2], e[5], e[6], r[5], r[6]}
	slices.Sort(want)
	if got := ids(t, l); !slices.Equal(got, want) {
		t.Errorf("left: %q\nwant: %q", got, want)
	}
}

// TestBundleIsProvenAgain: disks and people change files.
func TestBundleIsProvenAgain(t *testing.T) {
	l := open(t).Lineage("mx")
	g, other := add(t, l, newBundle(t, bundle.EC256, 1), 1), newBundle(t, bundle.EC256, 2)
	for name, content := range map[string]string{"another key": string(other.KeyPEM()), "nothing": "", "half": string(other.KeyPEM()[:90])} {
		path := write(t, content, l.Directory(g.ID), "privkey.pem")
		if _, err := l.Bundle(g.ID); err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []string{"", ".", "..", "../mx/" + g.ID + "x", "/etc", "none"} {
		if _, err := l.Bundle(id); err == nil {
			t.Errorf("there is a generation %q", id)
		}
	}
}

func TestDisplacedFilesAreKept(t *testing.T) {
	l := open(t).Lineage("mx")
	first, err := l.Displace("/etc/exim4/exim.key", []byte("old key"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.Displace("/etc/other/exim.key", []byte("other key"), time.Now())
	if err != nil || first == second {
		t.Fatal(second, err)
	}
	if text, err := os.ReadFile(first); err != nil || string(text) != "old key" || !strings.HasSuffix(first, "-exim.key") {
		t.Errorf("%s: %q, %v", first, text, err)
	}
	if again, err := l.Displace("/etc/exim4/exim.key", []byte("old key"), time.Now()); err != nil || again != first {
		t.Errorf("the same is kept twice: %s and %s, %v", first, again, err)
	}
	if got := ids(t, l); len(got) != 0 {
		t.Errorf("they are taken for generations: %q", got)
	}
}

// TestAPrunedGenerationIsNotListedByHalves: a process that is killed while it removes one leaves it out of the list.
func TestAPrunedGenerationIsNotListedByHalves(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	old := add(t, l, newBundle(t, bundle.EC256, 1), 1)
	kept := add(t, l, newBundle(t, bundle.EC256, 2), 2)
	// A directory that this user may not empty stands for the kill; root may, and packaging/crash kills for good.
	if err := os.Chmod(l.Directory(old.ID), 0o500); err != nil {
		t.Fatal(err)
	}
	err := l.Prune(state.Record{}, 1)
	if got := ids(t, l); !slices.Equal(got, []string{kept.ID}) {
		t.Errorf("generations: %q, %v", got, err)
	}
	if os.Geteuid() != 0 && err == nil {
		t.Error("what could not be removed is not told")
	}
	left, _ := filepath.Glob(filepath.Join(dir.Path(), "lineages", "mx", ".tmp-*"))
	for _, path := range left {
		_ = os.Chmod(path, 0o700) //nolint:gosec // it is a directory
	}
	if err := l.Prune(state.Record{}, 1); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir.Path(), "lineages", "mx", ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestFailuresOfAddNameTheGeneration, not the directory where it is made.
func TestFailuresOfAddNameTheGeneration(t *testing.T) {
	dir := open(t)
	write(t, "in the way", dir.Path(), "lineages", "mx")
	_, err := dir.Lineage("mx").Add(newBundle(t, bundle.EC256, 1), nil, "", "", time.Now())
	e, ok := errors.AsType[*state.Error](err)
	if !ok || e.Op != "store" || strings.Contains(e.Error(), ".new-") || strings.Contains(e.Error(), ".tmp-") || !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}

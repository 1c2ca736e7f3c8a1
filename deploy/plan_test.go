package deploy_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		what    string
		prepare func(t *testing.T, dir string, b *bundle.Bundle) (targets []deploy.Target, next *bundle.Bundle)
		want    string // path, why; content
	}{
		{"first", func(_ *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			return []deploy.Target{pair(dir)}, b
		}, "mx.key missing true, mx.crt missing true"},
		{"nothing to do", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, pair(dir), combined(dir))
			return []deploy.Target{pair(dir), combined(dir)}, b
		}, ""},
		{"same key", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, pair(dir))
			return []deploy.Target{pair(dir)}, renewed(t, b, 2)
		}, "mx.crt content true"},
		{"new key", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, pair(dir))
			return []deploy.Target{pair(dir)}, fresh(t, 2)
		}, "mx.key content true, mx.crt content true"},
		{"combined", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, combined(dir))
			return []deploy.Target{combined(dir)}, renewed(t, b, 2)
		}, "mx.pem content true"},
		{"mode only", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, pair(dir))
			if err := os.Chmod(pair(dir).PrivateKey, 0o666); err != nil {
				t.Fatal(err)
			}
			return []deploy.Target{pair(dir)}, b
		}, "mx.key mode or owner false"},
		{"one is gone", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, pair(dir), combined(dir))
			if err := os.Remove(pair(dir).Certificate); err != nil {
				t.Fatal(err)
			}
			return []deploy.Target{pair(dir), combined(dir)}, b
		}, "mx.crt missing true"},
		{"one was written over", func(t *testing.T, dir string, b *bundle.Bundle) ([]deploy.Target, *bundle.Bundle) {
			apply(t, b, pair(dir))
			write(t, pair(dir).PrivateKey, "", 0o640)
			return []deploy.Target{pair(dir)}, b
		}, "mx.key content true"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			targets, next := tt.prepare(t, dir, fresh(t, 1))
			p := plan(t, next, targets...)
			var got []string
			content := false
			for _, c := range p.Summary().Changes {
				got = append(got, fmt.Sprint(filepath.Base(c.Path), " ", c.Why, " ", c.Content))
				content = content || c.Content
				if c.After.Mode != "0640" || filepath.Dir(c.Path) != dir {
					t.Errorf("change %+v", c)
				}
			}
			if strings.Join(got, ", ") != tt.want || p.Summary().Empty() != (tt.want == "") || p.Summary().ContentChanges() != content {
				t.Errorf("plan %q, empty %v, content changes %v", got, p.Summary().Empty(), p.Summary().ContentChanges())
			}
			var kept []string
			if err := p.Apply(func(path string, content []byte) error {
				kept = append(kept, filepath.Base(path))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for i, c := range p.Summary().Changes {
				if had := c.Why == "content"; slices.Contains(kept, filepath.Base(c.Path)) != had {
					t.Errorf("change %d: kept %q", i, kept)
				}
			}
			holds(t, next, targets...)
			if !plan(t, next, targets...).Summary().Empty() {
				t.Error("it is not done")
			}
		})
	}
}

// TestFiles: these are all that a server may read, and that may be watched.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sni.db", "sni.bak"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(names ...string) (list []string) {
		for _, name := range names {
			list = append(list, filepath.Join(dir, name))
		}
		return list
	}
	for _, tt := range []struct {
		target deploy.Target
		want   []string
	}{
		{pair(dir), in("mx.crt", "mx.key")},
		{deploy.Target{Kind: "exim", Combined: dir + "/mx.{serial}.pem", SNIMap: dir + "/sni"}, in("mx.07.pem", "sni")},
		{deploy.Target{Kind: "postfix", Combined: dir + "/mx.{serial}.pem", SNIMap: "hash:" + dir + "/sni"}, in("mx.07.pem", "sni", "sni.db")},
		{deploy.Target{Kind: "dovecot", Directory: dir + "/live"}, in("live", "live/privkey.pem", "live/fullchain.pem", "live/combined.pem")},
	} {
		if got := tt.target.Files(fresh(t, 7)); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.target, got, tt.want)
		}
	}
}

// TestSameKeyLeavesTheKeyFileAlone: only so can a server never see a pair that does not match.
func TestSameKeyLeavesTheKeyFileAlone(t *testing.T) {
	target := pair(t.TempDir())
	b := fresh(t, 1)
	apply(t, b, target)
	key, certificate := inode(t, target.PrivateKey), inode(t, target.Certificate)
	apply(t, renewed(t, b, 2), target)
	if inode(t, target.PrivateKey) != key || inode(t, target.Certificate) == certificate {
		t.Error("the key was written, or the certificate in place")
	}
}

func TestSeveralKeyTypes(t *testing.T) {
	dir := t.TempDir()
	var jobs []deploy.Job
	for _, keyType := range []bundle.KeyType{bundle.EC256, bundle.EC384} {
		b := newBundle(t, newKey(t, keyType), 1, time.Now().Add(time.Hour))
		jobs = append(jobs, deploy.Job{Bundle: b, Target: deploy.Target{Mode: 0o600,
			Certificate: filepath.Join(dir, string(keyType)+".crt"), PrivateKey: filepath.Join(dir, string(keyType)+".key")}})
	}
	p, err := deploy.Make("mx", jobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		holds(t, job.Bundle, job.Target)
	}
}

// TestKeepStopsTheDeployment: without a copy nothing of the operator's is replaced.
func TestKeepStopsTheDeployment(t *testing.T) {
	target := pair(t.TempDir())
	first := fresh(t, 1)
	apply(t, first, target)
	err := plan(t, fresh(t, 2), target).Apply(func(path string, content []byte) error {
		if path != target.PrivateKey || string(content) != string(first.KeyPEM()) {
			t.Errorf("asked to keep %s", path)
		}
		return fs.ErrPermission
	})
	if err == nil {
		t.Error("it went on")
	}
	holds(t, first, target)
}

func TestRevert(t *testing.T) {
	dir := t.TempDir()
	first := fresh(t, 1)
	apply(t, first, pair(dir))
	if err := os.Chmod(pair(dir).Certificate, 0o604); err != nil {
		t.Fatal(err)
	}
	second := fresh(t, 2)
	p := plan(t, second, pair(dir), combined(dir))
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	if err := p.Summary().Revertible(time.Now()); err == nil {
		t.Error("there was no combined file to go back to")
	}
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	holds(t, first, pair(dir))
	if mode(t, pair(dir).Certificate) != 0o604 {
		t.Errorf("mode %o", mode(t, pair(dir).Certificate))
	}
	holds(t, second, combined(dir)) // a file that was not there before stays
}

func TestRevertible(t *testing.T) {
	now := time.Now()
	good := fresh(t, 1)
	expired := newBundle(t, newKey(t, bundle.EC256), 2, now.Add(-time.Hour))
	for _, tt := range []struct {
		what, certificate, key, combined string
		says                             string // "": it is
	}{
		{"a good pair", string(good.FullchainPEM()), string(good.KeyPEM()), string(good.CombinedPEM()), ""},
		{"chain before key", string(good.FullchainPEM()), string(good.KeyPEM()), string(good.FullchainPEM()) + string(good.KeyPEM()), ""},
		{"an expired pair", string(expired.FullchainPEM()), string(expired.KeyPEM()), string(expired.CombinedPEM()), "has expired"},
		{"a pair that does not match", string(good.FullchainPEM()), string(expired.KeyPEM()), string(good.KeyPEM()) + string(expired.FullchainPEM()), "does not belong"},
		{"none", "", "", "", "no PEM certificate"},
		{"half", string(good.FullchainPEM()), "", string(good.FullchainPEM()), "no PEM private key"},
		{"garbage", "x", "y", "z", "no PEM certificate"},
	} {
		for layout, target := range map[string]deploy.Target{"pair": pair(t.TempDir()), "combined": combined(t.TempDir())} {
			for path, content := range map[string]string{target.Certificate: tt.certificate, target.PrivateKey: tt.key, target.Combined: tt.combined} {
				if path != "" && content != "" {
					write(t, path, content, 0o640)
				}
			}
			err := plan(t, renewed(t, good, 3), target).Summary().Revertible(now)
			if (tt.says == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%s, %s: %v", tt.what, layout, err)
			}
		}
	}
	// What the plan does not touch does not count.
	target := pair(t.TempDir())
	apply(t, expired, target)
	other := combined(filepath.Dir(target.Certificate))
	write(t, other.Combined, string(good.CombinedPEM()), 0o640)
	p, err := deploy.Make("mx", []deploy.Job{{Bundle: expired, Target: target}, {Bundle: fresh(t, 4), Target: other}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Summary().Revertible(now); err != nil {
		t.Errorf("an untouched target: %v", err)
	}
}

// ApplyNew writes the targets that replace nothing, and leaves the others alone.
func TestApplyNew(t *testing.T) {
	dir := t.TempDir()
	b := fresh(t, 1)
	apply(t, b, pair(dir))
	generation := deploy.Target{Directory: filepath.Join(dir, "generation"), Mode: 0o640}
	p := plan(t, fresh(t, 2), pair(dir), combined(dir), generation)
	paths, err := p.ApplyNew()
	if want := []string{combined(dir).Combined, generation.Directory}; err != nil || !slices.Equal(paths, want) {
		t.Errorf("written %q, %v; want %q", paths, err, want)
	}
	if rest := plan(t, b, pair(dir)); !rest.Summary().Empty() {
		t.Errorf("replaced: %v", rest.Summary().Changes)
	}
	for _, path := range []string{combined(dir).Combined, filepath.Join(generation.Directory, "fullchain.pem")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if paths, err := plan(t, fresh(t, 3), pair(dir), combined(dir), generation).ApplyNew(); len(paths) != 0 || err != nil {
		t.Errorf("written %q, %v", paths, err)
	}
}

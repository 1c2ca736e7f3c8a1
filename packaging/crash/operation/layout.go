package operation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// Layout is a way to lay a bundle out in files.
type Layout struct {
	Name      string
	Exchanges bool                                         // certificate and key have paths of their own, so that a new key takes two renames
	Targets   func(dir string) []deploy.Target             // how mxcert does it
	Careless  func(dir string, b *bundle.Bundle) error     // or how others do
	Reads     func(dir string) (certificate, key []string) // what a mail server opens, in its order; one of each a pair
}

// Find gives the layout of that name.
func Find(name string) (Layout, error) {
	for _, l := range Layouts() {
		if l.Name == name {
			return l, nil
		}
	}
	return Layout{}, fmt.Errorf("there is no layout %q", name)
}

// Layouts lists all, mxcert's own first.
func Layouts() []Layout {
	return []Layout{
		{Name: "combined", Targets: combinedTarget, Reads: readsCombined},
		{Name: "pair", Exchanges: true, Targets: pairTarget, Reads: readsPair},
		{Name: "three targets", Exchanges: true, Targets: threeTargets, Reads: readsThree},
		{Name: "in place", Careless: inPlace, Reads: readsPair},
		{Name: "two renames", Careless: twoRenames, Reads: readsPair},
		{Name: "combined, no fsync", Careless: renameOnly, Reads: readsCombined},
		{Name: "link removed and made", Careless: relink, Reads: readsLink},
	}
}

func pairTarget(dir string) []deploy.Target {
	return []deploy.Target{{Kind: "exim", Certificate: filepath.Join(dir, "exim.crt"), PrivateKey: filepath.Join(dir, "exim.key")}}
}

func readsPair(dir string) (certificate, key []string) {
	return []string{filepath.Join(dir, "exim.crt")}, []string{filepath.Join(dir, "exim.key")}
}

func combinedTarget(dir string) []deploy.Target {
	return []deploy.Target{{Kind: "exim", Combined: filepath.Join(dir, "mx.pem")}}
}

func readsCombined(dir string) (certificate, key []string) {
	path := []string{filepath.Join(dir, "mx.pem")}
	return path, path
}

// threeTargets are a combined file, a pair, and a combined file in another directory.
func threeTargets(dir string) []deploy.Target {
	return append(append(combinedTarget(dir), pairTarget(dir)...),
		deploy.Target{Kind: "files", Combined: filepath.Join(dir, "other", "mx.pem")})
}

func readsThree(dir string) (certificate, key []string) {
	certificate, key = readsPair(dir)
	for _, path := range []string{filepath.Join(dir, "mx.pem"), filepath.Join(dir, "other", "mx.pem")} {
		certificate, key = append(certificate, path), append(key, path)
	}
	return certificate, key
}

// inPlace is what `cp` and many hooks do.
func inPlace(dir string, b *bundle.Bundle) error {
	return errors.Join(put(filepath.Join(dir, "exim.key"), b.KeyPEM()), put(filepath.Join(dir, "exim.crt"), b.FullchainPEM()))
}

func put(path string, content []byte) error {
	if err := os.WriteFile(path, content, Mode); err != nil {
		return err
	}
	return access(path)
}

func access(path string) error {
	if os.Geteuid() == 0 {
		if err := os.Chown(path, Owner, Group); err != nil {
			return err
		}
	}
	return os.Chmod(path, Mode)
}

// twoRenames has no fsync and no way back.
func twoRenames(dir string, b *bundle.Bundle) error {
	key, certificate := filepath.Join(dir, "exim.key"), filepath.Join(dir, "exim.crt")
	if err := replace(key, b.KeyPEM()); err != nil {
		return err
	}
	return replace(certificate, b.FullchainPEM())
}

func renameOnly(dir string, b *bundle.Bundle) error {
	return replace(filepath.Join(dir, "mx.pem"), b.CombinedPEM())
}

func replace(path string, content []byte) error {
	if err := put(path+".new", content); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// relink has a directory a serial number, and a link that is gone for a moment (`ln -sfn`).
func relink(dir string, b *bundle.Bundle) error {
	generation := filepath.Join(dir, b.Serial())
	if err := os.Mkdir(generation, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := inPlace(generation, b); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "live")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(b.Serial(), filepath.Join(dir, "live"))
}

func readsLink(dir string) (certificate, key []string) { return readsPair(filepath.Join(dir, "live")) }

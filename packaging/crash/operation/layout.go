package operation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// Layout is a way to store a bundle in files.
type Layout struct {
	Name      string
	Exchanges bool                                         // certificate and key have separate paths, so a new key takes two renames
	Also      bool                                         // all its calls are also made by other layouts
	Targets   func(dir string) []deploy.Target             // how mxcert does it
	Careless  func(dir string, b *bundle.Bundle) error     // or how others do
	Reads     func(dir string) (certificate, key []string) // the files that a mail server opens, in its order; one of each is a pair
	Staple    func(dir string) string                      // the file with the OCSP response of the first pair; nil if there is none
}

// StapleOf stands for the OCSP response of a certificate: deploy does not look into it.
func StapleOf(serial string) []byte { return []byte("the OCSP response of " + serial + "\n") }

func stapleFile(dir string) string { return filepath.Join(dir, "ocsp.der") }

// stapledPair keeps the response beside the pair.
func stapledPair(dir string) []deploy.Target {
	targets := pairTarget(dir)
	targets[0].OCSP = stapleFile(dir)
	return targets
}

// Find returns the layout with that name.
func Find(name string) (Layout, error) {
	for _, l := range Layouts() {
		if l.Name == name {
			return l, nil
		}
	}
	return Layout{}, fmt.Errorf("there is no layout %q", name)
}

// Layouts lists all layouts, mxcert's own first.
func Layouts() []Layout {
	return []Layout{
		{Name: "combined", Targets: combinedTarget, Reads: readsCombined},
		{Name: "generation directory", Targets: directoryTarget, Reads: readsDirectory},
		{Name: "SNI map", Targets: mapTarget, Reads: readsMap},
		{Name: "three targets", Targets: threeTargets, Reads: readsThree},
		{Name: "pair", Exchanges: true, Targets: pairTarget, Reads: readsPair},
		{Name: "pair and OCSP response", Exchanges: true, Targets: stapledPair, Reads: readsPair, Staple: stapleFile},
		{Name: "pair and two others", Exchanges: true, Also: true, Targets: mixedTargets, Reads: readsMixed},
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

func directoryTarget(dir string) []deploy.Target {
	return []deploy.Target{{Kind: "files", Directory: filepath.Join(dir, "mx")}}
}

func readsDirectory(dir string) (certificate, key []string) {
	return []string{filepath.Join(dir, "mx", "fullchain.pem")}, []string{filepath.Join(dir, "mx", "privkey.pem")}
}

func mapTarget(dir string) []deploy.Target {
	return []deploy.Target{{Kind: "exim", Combined: filepath.Join(dir, "sni", "mx.{serial}.pem"), SNIMap: filepath.Join(dir, "sni.map"), Default: true}}
}

// readsMap looks up a name that is in the map and one that is not, as lsearch* does.
func readsMap(dir string) (certificate, key []string) {
	text, err := os.ReadFile(filepath.Join(dir, "sni.map"))
	if err != nil {
		return []string{filepath.Join(dir, "sni.map")}, []string{filepath.Join(dir, "sni.map")}
	}
	for _, name := range []string{"mx.example.org", "*"} {
		path := filepath.Join(dir, "there is no line for "+name)
		for line := range strings.Lines(string(text)) {
			found, value, _ := strings.Cut(line, ":")
			if _, inside, ok := strings.Cut(strings.TrimSpace(value), "/tls/"); ok && found == name {
				path = filepath.Join(dir, inside) // a copy of the disk is mounted elsewhere
			}
		}
		certificate, key = append(certificate, path), append(key, path)
	}
	return certificate, key
}

// threeTargets returns targets for three services.
func threeTargets(dir string) []deploy.Target {
	return slices.Concat(combinedTarget(dir), directoryTarget(dir), mapTarget(dir))
}

func readsThree(dir string) (certificate, key []string) {
	return readsAll(dir, readsCombined, readsDirectory, readsMap)
}

// mixedTargets returns a combined file, a pair, and a combined file in another directory.
func mixedTargets(dir string) []deploy.Target {
	return slices.Concat(combinedTarget(dir), pairTarget(dir), combinedTarget(filepath.Join(dir, "other")))
}

func readsMixed(dir string) (certificate, key []string) {
	return readsAll(dir, readsCombined, readsPair, func(dir string) (certificate, key []string) { return readsCombined(filepath.Join(dir, "other")) })
}

func readsAll(dir string, parts ...func(string) (certificate, key []string)) (certificate, key []string) {
	for _, reads := range parts {
		c, k := reads(dir)
		certificate, key = append(certificate, c...), append(key, k...)
	}
	return certificate, key
}

// inPlace does what `cp` and many hooks do.
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

// twoRenames renames twice, without fsync and without a way to undo it.
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

// relink makes a directory for each serial number. Its link is missing for a moment (`ln -sfn`).
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

package helper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
)

// KnownFiles returns owner and mode of the files that were deployed, as the record of a lineage has them.
func KnownFiles(record state.Record) Known {
	known := make(Known, len(record.Files))
	for path, f := range record.Files {
		known[path] = deploy.Access{Mode: f.Mode, UID: f.UID, GID: f.GID}
	}
	return known
}

// Remember notes in a record owner and mode of the files of a plan. It returns notes about files that only an earlier
// configuration named: mxcert no longer renews them, and there may be a key among them.
func Remember(record *state.Record, want wanted.Certificate, plan Plan) (notes []string) {
	found := accesses(plan)
	before := record.Files
	record.Files = map[string]state.File{}
	for _, t := range want.Targets() {
		for _, path := range t.Places(nil) {
			if strings.Contains(path, "{serial}") {
				continue // a deployment removes its old ones
			}
			f := before[path]
			if a, ok := found[path]; ok {
				f = state.File{Mode: a.Mode, UID: a.UID, GID: a.GID}
			}
			record.Files[path] = f
		}
	}
	for path, f := range before {
		if _, current := record.Files[path]; current {
			continue
		}
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		record.Files[path] = f
		notes = append(notes, fmt.Sprintf("%s was written for this certificate, but the configuration no longer names it: mxcert does not renew it; remove it when no program reads it", path))
	}
	return notes
}

// lineageOf returns the helper's own lineage, with its own record: the helper does not trust the service's state.
func lineageOf(name string) *state.Lineage {
	return state.New(disk.At(os.Getenv("STATE_DIRECTORY"))).Lineage(name)
}

// knownFiles returns the owners and modes that this helper has given to files before.
func knownFiles(name string) Known {
	record, _, err := lineageOf(name).Look()
	if err != nil {
		return nil
	}
	return KnownFiles(record)
}

// remember notes owner and mode of the files, and what was written. If that fails, only this note is lost: then the next deployment keeps
// copies of files that it need not keep.
func (i *installer) remember() {
	dir := os.Getenv("STATE_DIRECTORY")
	record, _, err := lineageOf(i.want.Name).Look()
	if dir == "" || err != nil {
		return
	}
	Remember(&record, i.want, i.plan)
	_ = os.MkdirAll(filepath.Join(dir, "lineages", i.want.Name), 0o700)
	_ = lineageOf(i.want.Name).Save(record)
	if before, list := written(i.want.Name), i.addWritten(); !slices.Equal(before, list) {
		_ = disk.At(dir).Replace(writtenKey(i.want.Name), []byte(strings.Join(list, "\n")))
	}
}

// mostWritten limits how many files the helper remembers. If it forgets one, the worst is a copy too many.
const mostWritten = 1000

// writtenKey is where the helper's state directory holds the hashes of what the helper wrote for a certificate, one a line.
func writtenKey(name string) string { return "written/" + name }

// written returns the hashes of what the helper wrote for a certificate, the newest last.
func written(name string) []string {
	text, err := disk.At(os.Getenv("STATE_DIRECTORY")).Read(writtenKey(name))
	if err != nil {
		return nil // the helper then keeps what it replaces
	}
	return strings.Fields(string(text))
}

// addWritten returns the hashes of what the helper wrote earlier, and of every form of the present bundles.
func (i *installer) addWritten() []string {
	list := written(i.want.Name)
	for _, b := range i.bundles {
		if b == nil {
			continue
		}
		for _, content := range [][]byte{b.KeyPEM(), b.FullchainPEM(), b.CombinedPEM()} {
			if hash := hashOf(content); !slices.Contains(list, hash) {
				list = append(list, hash)
			}
		}
	}
	return list[max(0, len(list)-mostWritten):]
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// keep copies a file that is about to be replaced, unless it holds what this helper wrote for the certificate: a deployment, be it the first
// or a later one, must not lose files of the operator.
func (i *installer) keep(path string, content []byte) error {
	if os.Getenv("STATE_DIRECTORY") == "" {
		return errors.New("STATE_DIRECTORY is not set: the helper must be started by its unit")
	}
	if slices.Contains(written(i.want.Name), hashOf(content)) {
		return nil
	}
	kept, err := lineageOf(i.want.Name).Displace(path, content, time.Now())
	if err == nil {
		i.kept = append(i.kept, kept)
	}
	return err
}

//go:build linux && amd64

package crash

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/packaging/crash/operation"
)

// stores are a renewal's changes of an empty store, and of one where an old generation is to be forgotten.
func stores(b bundles) []*subject {
	return []*subject{store(b, "store: first", "", b.old), store(b, "store: next", b.old, b.renewed)}
}

func store(b bundles, name, old, next string) *subject {
	spec := func(root string) operation.Spec {
		return operation.Spec{Action: operation.StoreAdd, Root: root, Old: old, New: next}
	}
	return &subject{
		name: name, first: old == "", aim: "new", store: true, spec: spec,
		setup: func(root string) error {
			s := spec(root)
			if err := os.Mkdir(s.State(), 0o700); err != nil {
				return err
			}
			if os.Geteuid() == 0 { // root's command becomes the service's user
				if err := os.Chown(s.State(), operation.Owner, operation.Group); err != nil {
					return err
				}
			}
			if s.New = old; old == "" {
				return nil
			}
			return errors.Join(serve(s), serve(s))
		},
		see: func(root string) sight {
			s := sight{open: openKeys(root), left: temporary(root), state: "broken"}
			state, err := lookAtStore(spec(root).State(), map[string]*bundle.Bundle{"old": b.parsed[old], "new": b.parsed[next]})
			if err != nil {
				s.why = err.Error()
			} else {
				s.state = state
			}
			return s
		},
		again: func(root string) error { return errors.Join(age(root), serve(spec(root)), belongs(spec(root).State())) },
	}
}

// lookAtStore reads all that a killed process may have been writing, and changes nothing.
func lookAtStore(path string, known map[string]*bundle.Bundle) (string, error) {
	dir := state.New(disk.At(path))
	lineage := dir.Lineage(operation.Name)
	record, repaired, err := lineage.Look()
	if err != nil || repaired != "" {
		return "", fmt.Errorf("the record: %v %s", err, repaired)
	}
	generations, err := lineage.Generations()
	if err != nil {
		return "", err
	}
	whole := map[string]string{"": "none"}
	for _, g := range generations {
		if whole[g.ID], err = lookAtGeneration(lineage, g, known); err != nil {
			return "", fmt.Errorf("generation %s is listed: %w", g.ID, err)
		}
	}
	current := ""
	for _, slot := range record.Keys {
		for _, id := range []string{slot.Previous, slot.Served, slot.Current} {
			if current = id; whole[id] == "" {
				return "", fmt.Errorf("the record names %s, which is not there", id)
			}
		}
	}
	_, _, accountErr := dir.Account("https://ca.example/directory")
	_, _, orderErr := lineage.Order(bundle.RSA2048)
	_, journalErr := lineage.Journal()
	var daemon any
	daemonErr := dir.Daemon(&daemon)
	if errors.Is(daemonErr, fs.ErrNotExist) {
		daemonErr = nil
	}
	return whole[current], errors.Join(accountErr, orderErr, journalErr, daemonErr)
}

// lookAtGeneration compares all files with what they should be.
func lookAtGeneration(l *state.Lineage, g state.Generation, known map[string]*bundle.Bundle) (string, error) {
	found, err := l.Bundle(g.ID)
	if err != nil {
		return "", err
	}
	for name, b := range known {
		if b == nil || !b.Same(found) {
			continue
		}
		for file, want := range map[string][]byte{"privkey.pem": b.KeyPEM(), "fullchain.pem": b.FullchainPEM(), "cert.pem": b.LeafPEM(), "chain.pem": b.ChainPEM()} {
			if got, err := os.ReadFile(filepath.Join(l.Directory(g.ID), file)); err != nil || !bytes.Equal(got, want) {
				return "", fmt.Errorf("%s is not whole: %v", file, err)
			}
		}
		return name, nil
	}
	return "", errors.New("nobody knows its certificate")
}

// age makes temporary files look old: in directories that belong to no lineage, young ones may be another process's.
func age(root string) error {
	var problems []error
	for _, path := range temporary(root) {
		old := time.Now().Add(-2 * time.Hour)
		problems = append(problems, os.Chtimes(filepath.Join(root, path), old, old))
	}
	return errors.Join(problems...)
}

// serve runs the operation as the service's user does, in a process that is not traced.
func serve(spec operation.Spec) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	cmd := exec.Command(victim, string(text))
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: operation.Owner, Gid: operation.Group}}
	}
	out, err := cmd.CombinedOutput()
	var said report
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	if err != nil || said.Failed {
		return fmt.Errorf("%v: %s", err, out)
	}
	return nil
}

// belongs checks owner and mode of everything in the store.
func belongs(path string) error {
	var problems []error
	err := filepath.Walk(path, func(path string, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || info.Mode().Perm() != want || os.Geteuid() == 0 && (stat.Uid != operation.Owner || stat.Gid != operation.Group) {
			problems = append(problems, fmt.Errorf("%s has mode %04o, owner %d:%d", path, info.Mode().Perm(), stat.Uid, stat.Gid))
		}
		return nil
	})
	return errors.Join(append(problems, err)...)
}

// TestStoreKill: kill -9 before each call of a renewal's changes to the store.
func TestStoreKill(t *testing.T) {
	base := ext4(t)
	table := newTable("store, kill -9", killColumns()...)
	for _, s := range stores(makeBundles(t)) {
		killEverywhere(t, base, s, table)
	}
	table.print()
}

// TestStoreErrno: every error at every call.
func TestStoreErrno(t *testing.T) {
	base := memory(t)
	table := newTable("store, errno", errnoColumns()...)
	for _, s := range stores(makeBundles(t)) {
		failEverywhere(t, base, s, table)
	}
	table.print()
}

func killColumns() []string {
	return strings.Fields("calls kills old new mixed none broken open left again")
}

func errnoColumns() []string {
	return strings.Fields("calls cases failed old new mixed none broken open left again")
}

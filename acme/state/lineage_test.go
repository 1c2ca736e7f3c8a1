package state_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

func TestRecordRoundtrip(t *testing.T) {
	l := open(t).Lineage("mx")
	if record, repaired, err := l.Load(); err != nil || repaired != "" || len(record.Keys) != 0 {
		t.Fatalf("a new lineage: %+v, %q, %v", record, repaired, err)
	}
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var record state.Record
	record.Slot(bundle.EC256).Current, record.Slot(bundle.EC256).RenewAt = "g1", at
	record.Applying = true
	record.Failure = &state.Failure{Stage: "order", Count: 3, NotBefore: at, ChargedToCA: true}
	for i := range 250 {
		record.Log(state.Event{At: at.Add(time.Duration(i) * time.Second), Event: "failed", Message: fmt.Sprint(i)})
	}
	if err := l.Save(record); err != nil {
		t.Fatal(err)
	}
	read, repaired, err := l.Load()
	if err != nil || repaired != "" {
		t.Fatal(repaired, err)
	}
	if s := read.Slot(bundle.EC256); s.Current != "g1" || !s.RenewAt.Equal(at) || !read.Applying || *read.Failure != *record.Failure {
		t.Errorf("read %+v", read)
	}
	if n := len(read.Events); n != 200 || read.Events[n-1].Message != "249" || read.Events[0].Message != "50" {
		t.Errorf("%d events, from %s", n, read.Events[0].Message)
	}
}

// TestRecordStaysSmall: whatever went wrong how often, the record stays below what a store must read.
func TestRecordStaysSmall(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	long := strings.Repeat("ä", 1<<20)
	record := state.Record{Failure: &state.Failure{Message: long}}
	for range 250 {
		record.Log(state.Event{At: time.Now(), Event: "failed", Message: long})
	}
	if err := l.Save(record); err != nil {
		t.Fatal(err)
	}
	read, _, err := l.Look()
	if err != nil || read.Failure == nil || len(read.Events) != 200 {
		t.Fatalf("%d events, %v", len(read.Events), err)
	}
	for _, message := range []string{read.Failure.Message, read.Events[0].Message} {
		if len(message) > 3000 || !strings.HasPrefix(message, "ää") || !strings.HasSuffix(message, "ä…") {
			t.Errorf("%d bytes: %.20q", len(message), message)
		}
	}
}

// TestDamagedRecordIsRebuilt: a lost note must never be a reason to serve nothing.
func TestDamagedRecordIsRebuilt(t *testing.T) {
	for name, damage := range map[string]string{"empty": "", "half": `{"version": 1, "keys": {"ec2`, "binary": "\x00\x00\x00", "null": "null", "a list": "[]", "no version": "{}", "another type": `{"version":1,"keys":7}`} {
		t.Run(name, func(t *testing.T) {
			dir := open(t)
			l := dir.Lineage("mx")
			add(t, l, newBundle(t, bundle.EC256, 1), 1)
			newest := add(t, l, newBundle(t, bundle.EC256, 2), 2)
			broken := add(t, l, newBundle(t, bundle.EC256, 3), 3)
			write(t, "lost", l.Directory(broken.ID), "privkey.pem")
			path := write(t, damage, dir.Path(), "lineages", "mx", "record.json")
			record, repaired, err := l.Load()
			if err != nil || !strings.Contains(repaired, path) || !strings.Contains(repaired, "record.json.damaged") {
				t.Fatalf("repaired %q, %v", repaired, err)
			}
			if record.Slot(bundle.EC256).Current != newest.ID || record.Slot(bundle.EC256).Served != "" {
				t.Errorf("current is %+v, want %s", record.Slot(bundle.EC256), newest.ID)
			}
			if text, err := os.ReadFile(path + ".damaged"); err != nil || string(text) != damage {
				t.Errorf("set aside: %q, %v", text, err)
			}
		})
	}
}

// TestRecordThatIsNoFile: it is treated as a damaged one, and what it leads to stays as it is. What was set aside before does not
// matter.
func TestRecordThatIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a link to a device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"a link to a record": func(path string) error {
			return os.Symlink(write(t, `{"version": 1, "keys": {"ec256": {"current": "x"}}}`, t.TempDir(), "record.json"), path)
		},
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "in"), 0o700) },
		"too large":   func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		for _, before := range []string{"", "a file", "a directory"} {
			dir := open(t)
			l := dir.Lineage("mx")
			g := add(t, l, newBundle(t, bundle.EC256, 1), 1)
			path := filepath.Join(dir.Path(), "lineages", "mx", "record.json")
			switch before {
			case "a file":
				write(t, "{", path+".damaged")
			case "a directory":
				write(t, "", filepath.Dir(path), "x")
				if err := os.MkdirAll(filepath.Join(path+".damaged", "in"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			if record, repaired, err := l.Look(); err != nil || !strings.Contains(repaired, path+" is damaged") || record.Slot(bundle.EC256).Current != g.ID {
				t.Errorf("%s: a look: %+v, %q, %v", name, record, repaired, err)
			}
			if found, err := dir.Inspect(); err != nil || len(found) == 0 || found[0].Subject != path || found[0].ID != "state-record" {
				t.Errorf("%s: doctor: %+v, %v", name, found, err)
			}
			record, repaired, err := l.Load()
			if err != nil || !strings.Contains(repaired, "is kept as record.json.damaged") || record.Slot(bundle.EC256).Current != g.ID {
				t.Errorf("%s, before %s: %+v, %q, %v", name, before, record, repaired, err)
				continue
			}
			if err := l.Save(record); err != nil {
				t.Error(err)
			}
			if record, repaired, err := l.Load(); err != nil || repaired != "" || record.Slot(bundle.EC256).Current != g.ID {
				t.Errorf("%s: afterwards: %+v, %q, %v", name, record, repaired, err)
			}
			found, err := dir.Inspect()
			if err != nil || len(found) == 0 || found[0].ID != "state-set-aside" || !strings.HasPrefix(found[0].Subject, path+".damaged") {
				t.Errorf("%s: doctor afterwards: %+v, %v", name, found, err)
			}
		}
	}
}

func TestMissingRecordIsRebuilt(t *testing.T) {
	l := open(t).Lineage("mx")
	g := add(t, l, newBundle(t, bundle.EC256, 1), 1)
	record, repaired, err := l.Load()
	if err != nil || !strings.Contains(repaired, "was missing") || record.Slot(bundle.EC256).Current != g.ID {
		t.Errorf("%+v, %q, %v", record, repaired, err)
	}
}

// TestEmptySlots: a record that parses may still lack what the code reaches for.
func TestEmptySlots(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	add(t, l, newBundle(t, bundle.EC256, 1), 1)
	write(t, `{"version": 1, "keys": {"ec256": null}}`, dir.Path(), "lineages", "mx", "record.json")
	record, _, err := l.Load()
	if err != nil {
		t.Fatal(err)
	}
	for keyType, slot := range record.Keys {
		if slot == nil {
			t.Errorf("the slot of %s is nil", keyType)
		}
	}
	if err := l.Prune(record, 3); err != nil {
		t.Error(err)
	}
}

func TestLaterVersionsAreRefused(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	if err := os.MkdirAll(filepath.Join(dir.Path(), "lineages", "mx"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir.Path(), "accounts", "ca.example_dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	later := `{"version": 2, "keys": ["a later mxcert has lists here"], "records": 7}`
	for path, read := range map[string]func() error{
		write(t, later, dir.Path(), "lineages", "mx", "record.json"):                     func() error { _, _, err := l.Load(); return err },
		write(t, later, dir.Path(), "orders", "mx.ec256.json"):                           func() error { _, _, err := l.Order(bundle.EC256); return err },
		write(t, later, dir.Path(), "journal", "mx.20260101T000000000Z-01234567.json"):   func() error { _, err := l.Journal(); return err },
		write(t, later, dir.Path(), "accounts", "ca.example_dir", "account.json"):        func() error { _, _, err := dir.Account("https://ca.example/dir"); return err },
		filepath.Dir(write(t, later, dir.Path(), "lineages", "mx", "meta.json")) + "/mx": func() error { _, err := dir.Lineage("").Generation("mx"); return err },
	} {
		err := read()
		e, ok := errors.AsType[*state.Error](err)
		if !ok || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "later mxcert") {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if e.Kind() != "state" || e.Hint() == "" {
			t.Errorf("kind %s, hint %s", e.Kind(), e.Hint())
		}
	}
	for _, path := range []string{"lineages/mx/record.json", "orders/mx.ec256.json", "journal/mx.20260101T000000000Z-01234567.json"} {
		if text, err := os.ReadFile(filepath.Join(dir.Path(), path)); err != nil || string(text) != later {
			t.Errorf("%s was touched: %v", path, err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		err                error
		op                 string
		kind, stage, hints string
		temporary          bool
	}{
		{fs.ErrPermission, "read", "permission", "state", "root", false}, {syscall.EACCES, "write", "permission", "store", "root", false},
		{syscall.ENOSPC, "store", "disk-full", "store", "make room", false}, {syscall.EDQUOT, "write", "disk-full", "store", "make room", false},
		{state.ErrLocked, "lock", "locked", "lock", "mxcert status", true}, {state.ErrDamaged, "read", "state", "state", "move it out", false},
		{syscall.EROFS, "set aside", "state", "store", "configuration", false},
	} {
		e := &state.Error{Op: tt.op, Path: "/x", Err: tt.err}
		if e.Kind() != tt.kind || e.Stage() != tt.stage || !strings.Contains(e.Hint(), tt.hints) || e.Temporary() != tt.temporary || e.Error() != tt.op+" /x: "+tt.err.Error() || !errors.Is(e, tt.err) {
			t.Errorf("%v: kind %s, stage %s, temporary %v: %s", e, e.Kind(), e.Stage(), e.Temporary(), e.Hint())
		}
	}
}

// TestLookChangesNothing: reports are for everybody who may read.
func TestLookChangesNothing(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	g := add(t, l, newBundle(t, bundle.EC256, 1), 1)
	if record, repaired, err := l.Look(); err != nil || repaired != "" || record.Slot(bundle.EC256).Current != g.ID {
		t.Errorf("without a record: %+v, %q, %v", record, repaired, err)
	}
	path := write(t, `{"version": 1, "keys": {`, dir.Path(), "lineages", "mx", "record.json")
	record, repaired, err := l.Look()
	if err != nil || !strings.Contains(repaired, path+" is damaged") || record.Slot(bundle.EC256).Current != g.ID {
		t.Errorf("%+v, %q, %v", record, repaired, err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("the damaged file was moved")
	}
	write(t, `{"version": 1, "keys": {"ec256": null}}`, path)
	if record, _, err = l.Look(); err != nil || len(record.Keys) != 0 {
		t.Errorf("an empty slot: %+v, %v", record, err)
	}
	write(t, `{"version": 9}`, path)
	if _, _, err := l.Look(); err == nil || !strings.Contains(err.Error(), "later mxcert") {
		t.Errorf("a later version: %v", err)
	}
}

// TestNothingThereIsNothing: reports look at directories that were never made.
func TestNothingThereIsNothing(t *testing.T) {
	l := state.New(disk.At(filepath.Join(t.TempDir(), "none"))).Lineage("mx")
	if record, repaired, err := l.Load(); err != nil || repaired != "" || len(record.Keys) != 0 {
		t.Errorf("record: %+v %q %v", record, repaired, err)
	}
	if entries, err := l.Journal(); err != nil || len(entries) != 0 {
		t.Errorf("journal: %v %v", entries, err)
	}
	if _, ok, err := l.Order(bundle.EC256); err != nil || ok {
		t.Errorf("order: %v %v", ok, err)
	}
	if got := ids(t, l); len(got) != 0 {
		t.Errorf("generations: %q", got)
	}
}

package script_test

import (
	"os"
	"path/filepath"
	"testing"

	"mxcert/hooks/script"
)

// TestCheckRunsNothing: it finds what Run would run, skip and refuse.
func TestCheckRunsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask
		t.Fatal(err)
	}
	ran := filepath.Join(dir, "ran")
	for name, mode := range map[string]os.FileMode{"10-good": 0o700, "20-open": 0o777, "30-plain": 0o600, "40-old.bak": 0o700} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	outcomes, err := script.Check(dir)
	if err != nil || len(outcomes) != 4 {
		t.Fatalf("%+v, %v", outcomes, err)
	}
	for i, want := range []struct{ skipped, refused bool }{{false, false}, {false, true}, {true, false}, {true, false}} {
		if o := outcomes[i]; (o.Skipped != "") != want.skipped || (o.Err != nil) != want.refused {
			t.Errorf("%+v, want %+v", o, want)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a hook was run")
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := script.Check(dir); err == nil {
		t.Error("a directory that all can write to is accepted")
	}
	if outcomes, err := script.Check(filepath.Join(dir, "none")); err != nil || len(outcomes) > 0 {
		t.Errorf("no directory: %v, %v", outcomes, err)
	}
}

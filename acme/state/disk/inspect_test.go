package disk_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/acme/state/disk"
)

// TestInspectOwners: what root leaves in the service's directory keeps the service out.
func TestInspectOwners(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := filepath.Join(t.TempDir(), "state")
	store, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "accounts", "lineages", "orders", "journal"} {
		if err := os.Chown(filepath.Join(dir, path), 4711, 4711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lineages", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	faults, err := store.Inspect()
	if err != nil || len(faults) != 1 || faults[0].Severity != finding.Error || !strings.Contains(faults[0].Message, "belongs to user 0") || !strings.Contains(faults[0].Hint, "chown -R 4711") {
		t.Errorf("%+v, %v", faults, err)
	}
}

// TestInspectTellsWhatItCannotRead, and goes on with the rest.
func TestInspectTellsWhatItCannotRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	store, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, "", dir, "orders", ".tmp-1")
	if err := os.Chmod(filepath.Join(dir, "journal"), 0o300); err != nil {
		t.Fatal(err)
	}
	asOwner(t, dir, func() {
		found, err := store.Inspect()
		if err != nil || len(found) != 2 {
			t.Fatalf("%+v, %v", found, err)
		}
		if f := found[0]; f.Subject != filepath.Join(dir, "journal") || f.Severity != finding.Error || f.Message != "it cannot be read: permission denied" {
			t.Errorf("%+v", f)
		}
		if f := found[1]; f.Subject != filepath.Join(dir, "orders", ".tmp-1") || f.Severity != finding.Warning {
			t.Errorf("%+v", f)
		}
	})
}

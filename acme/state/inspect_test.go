package state_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// TestInspect finds what is odd, and changes nothing.
func TestInspect(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	store, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	lineage := store.Lineage("mx")
	unlock, err := lineage.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := lineage.Save(state.Record{}); err != nil {
		t.Fatal(err)
	}
	if err := lineage.SaveOrder(state.Order{KeyType: bundle.EC256, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := store.SaveDaemon(map[string]any{"pid": 1}); err != nil {
		t.Fatal(err)
	}
	if faults, err := store.Inspect(); err != nil || len(faults) > 0 {
		t.Fatalf("all is well: %+v, %v", faults, err)
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("lineages/mx/record.json", "{")
	write("orders/other.ec256.json", `{"version": 99}`)
	write("journal/mx.x.json", `{"version": 0}`)
	write("accounts/.tmp-1", "")
	write("lineages/mx/record.json.damaged", "")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	faults, err := store.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		says  string
		grave bool
	}{
		"lineages/mx/record.json": {"damaged", false}, "orders/other.ec256.json": {"later mxcert", true}, "journal/mx.x.json": {"damaged", false},
		"accounts/.tmp-1": {"killed", false}, "lineages/mx/record.json.damaged": {"set aside", false}, "": {"mode is 0755", false},
	} {
		found := false
		for _, f := range faults {
			found = found || f.Path == filepath.Join(dir, path) && strings.Contains(f.Message, want.says) && f.Grave == want.grave && f.Hint != ""
		}
		if !found {
			t.Errorf("%q is not found in %+v", path, faults)
		}
	}
	if len(faults) != 6 {
		t.Errorf("%d faults: %+v", len(faults), faults)
	}
	if _, err := os.Stat(filepath.Join(dir, "journal/mx.x.json")); err != nil {
		t.Error("a look has removed something")
	}
	if _, err := state.At(filepath.Join(dir, "none")).Inspect(); err == nil {
		t.Error("a directory that is not there is well")
	}
}

// TestInspectOwners: what root leaves in the service's directory keeps the service out.
func TestInspectOwners(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := filepath.Join(t.TempDir(), "state")
	store, err := state.Open(dir)
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
	if err != nil || len(faults) != 1 || !faults[0].Grave || !strings.Contains(faults[0].Message, "belongs to user 0") || !strings.Contains(faults[0].Hint, "chown -R 4711") {
		t.Errorf("%+v, %v", faults, err)
	}
}

package state_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// TestInspect finds what is odd, and changes nothing.
func TestInspect(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	files, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store := state.New(files)
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
		says     string
		severity finding.Severity
	}{
		"lineages/mx/record.json": {"damaged", finding.Warning}, "orders/other.ec256.json": {"later mxcert", finding.Error}, "journal/mx.x.json": {"damaged", finding.Warning},
		"accounts/.tmp-1": {"killed", finding.Warning}, "lineages/mx/record.json.damaged": {"set aside", finding.Warning}, "": {"mode is 0755", finding.Warning},
	} {
		found := false
		for _, f := range faults {
			found = found || f.Subject == filepath.Join(dir, path) && strings.Contains(f.Message, want.says) && f.Severity == want.severity && f.Hint != "" && f.ID != ""
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
	if _, err := state.New(disk.At(filepath.Join(dir, "none"))).Inspect(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestInspectIsBounded: nobody reads a thousand lines, and the first fifty say enough.
func TestInspectIsBounded(t *testing.T) {
	t.Parallel()
	store := open(t)
	for n := range 60 {
		write(t, "{", store.Path(), "orders", fmt.Sprintf("x%02d.ec256.json", n))
	}
	found, err := store.Inspect()
	if err != nil || len(found) != 50 || !strings.HasSuffix(found[0].Subject, "x00.ec256.json") {
		t.Errorf("%d findings, %v", len(found), err)
	}
}

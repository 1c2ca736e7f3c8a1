package state_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// FuzzFiles puts any bytes in the place of each state file. Nothing panics, what is not of this version's form is
// repaired or reported, and what is accepted can be used.
func FuzzFiles(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"version":1}`, `{"version":2}`, `{"version":1,"keys":{"ec256":null}}`, `{"version":"1"}`,
		`{"version":1,"keys":{"ec256":{"current":"../../x","renew_at":"2026-01-01T00:00:00Z"}},"failure":{"count":-1},"events":[{"event":"x"}]}`,
		`{"version":1,"lineage":"mx","provider":"rfc2136","records":[{"domain":"d","name":"n.z.","zone":"z.","value":"v"}]}`,
		`{"version":1,"lineage":"mx","records":[]}`, `{"version":1,"id":"g","names":["a"],"key":"ec256"}`,
		`{"version":1,"url":"u","directory":"d","names":["a"],"key_type":"ec256","key":"k"}`,
	} {
		f.Add([]byte(seed))
	}
	dir := state.New(disk.At(f.TempDir()))
	l := dir.Lineage("mx")
	var paths []string
	for _, path := range []string{"lineages/mx/record.json", "lineages/mx/g/meta.json", "orders/mx.ec256.json", "journal/mx.g.json", "accounts/ca.example_dir/account.json"} {
		path = filepath.Join(dir.Path(), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			f.Fatal(err)
		}
		paths = append(paths, path)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, path := range paths {
			write(t, string(content), path)
		}
		var head struct{ Version int }
		good := json.Unmarshal(content, &head) == nil && head.Version == 1
		record, repaired, err := l.Load()
		if !good && err == nil && repaired == "" {
			t.Errorf("a bad record is not reported: %+v", record)
		}
		for _, slot := range record.Keys {
			_, _ = l.Bundle(slot.Current)
		}
		if order, ok, _ := l.Order(bundle.EC256); ok && !good {
			t.Errorf("a bad order is used: %+v", order)
		}
		entries, err := l.Journal()
		if len(entries) == 0 && err == nil {
			t.Error("a lost journal entry is not reported")
		}
		for _, e := range entries {
			if len(e.Records) == 0 || e.Records[0].Name == "" {
				t.Errorf("an entry without a record: %+v", e)
			}
		}
		if _, ok, err := dir.Account("https://ca.example/dir"); ok == (err != nil) {
			t.Errorf("account: %v, %v", ok, err)
		}
		if _, err := l.Generations(); err != nil {
			t.Error(err)
		}
		_ = l.Prune(record, 3)
	})
}

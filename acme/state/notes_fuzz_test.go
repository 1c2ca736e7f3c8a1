package state_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// FuzzNotes puts any bytes in the place of each file that FuzzFiles leaves out: the notes about a certificate that is there, about a CA, and
// of the daemon. Nothing panics, and nothing that is lost makes a revoked or compromised key good again.
func FuzzNotes(f *testing.F) {
	const ca = "https://ca.example/dir"
	dir := open(f)
	l := dir.Lineage("mx")
	made, err := l.Add(newBundle(f, bundle.EC256, 1), []string{"mx.example.org"}, ca, "", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	meta, err := os.ReadFile(filepath.Join(l.Directory(made.ID), "meta.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(meta), "", "null", "{}", "[]", `{"version":1}`, `{"version":2}`, `{"version":1,"reason":"superseded","asked":"2026-01-01T00:00:00Z","key_compromised":false}`,
		`{"version":1,"key_compromised":"no"}`, `{"version":1,"ledger":{"orders":[{}]},"breaker":{"until":"x"},"validation":{},"issuance":null}`,
		`{"pid":1,"version":"x","socket":"/run/x.sock"}`, `{"pid":-1,"socket":7}`, `{"version":1,"id":"../x","directory":"https://ca.example/dir"}`,
		`{"url":"https://ca.example/acct/1","key":"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n`,
		"state: /var/lib/mxcert\n",
	} {
		f.Add([]byte(seed))
	}
	account := filepath.Join(dir.Path(), "accounts", "ca.example_dir")
	if err := os.MkdirAll(account, 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, path := range []string{filepath.Join(l.Directory(made.ID), "revoked.json"), filepath.Join(l.Directory(made.ID), "meta.json"), filepath.Join(account, "usage.json"),
			filepath.Join(account, "account.json"), filepath.Join(dir.Path(), "daemon.json"), filepath.Join(dir.Path(), "running.yaml")} {
			write(t, string(content), path)
		}
		var head struct{ Version int }
		good := json.Unmarshal(content, &head) == nil && head.Version == 1
		if r, ok := l.Revocation(made.ID); !ok || !good && !r.KeyCompromised {
			t.Errorf("a lost note about a revocation is %+v, %v", r, ok)
		}
		if g, err := l.Generation(made.ID); err == nil && g.ID != made.ID || !good && head.Version <= 1 && err != nil {
			t.Errorf("generation %+v, %v", g, err)
		}
		_ = l.Compromised(made.SPKI)
		if usage, err := dir.Usage(ca); err == nil && !good && usage.Version != 0 {
			t.Errorf("a damaged usage is used: %+v", usage)
		}
		if _, err := dir.Inspect(); err != nil {
			t.Error(err)
		}
		if salvaged := dir.SalvageAccount(ca); salvaged.Key != "" {
			if _, err := bundle.ParseKey([]byte(salvaged.Key)); err != nil {
				t.Errorf("a key is salvaged that is none: %v", err)
			}
		}
		accounts, err := dir.Accounts()
		if len(accounts) == 0 && err == nil {
			t.Error("a damaged account is not reported")
		}
		_ = dir.HasIssued(ca)
		var about any
		_ = dir.Daemon(&about)
		if _, text, err := dir.RunningConfig(); err != nil || string(text) != string(content) {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// FuzzNames uses any text where records name generations, and where files name lineages: no name leads out of its folder.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"20260101T000000000Z-01234567", "..", ".", "", "/", "../x", "../../..", "a/../..", "x/", "\x00", ".tmp-1", "mx.20260101T000000000Z-01234567", "...x", "..x", strings.Repeat("x", 300)} {
		f.Add(seed)
	}
	dir := state.New(disk.At(f.TempDir()))
	if err := os.MkdirAll(filepath.Join(dir.Path(), "journal"), 0o700); err != nil {
		f.Fatal(err)
	}
	home := filepath.Dir(dir.Lineage("mx").Directory("x"))
	f.Fuzz(func(t *testing.T, name string) {
		l := dir.Lineage("mx")
		if path := l.Directory(name); filepath.Dir(path) != home && (name != "" || path != home) {
			t.Errorf("%q leads to %s", name, path)
		}
		_, _ = l.Generation(name)
		if r, ok := l.Revocation(name); ok && !r.KeyCompromised { // what cannot be read counts as the worst
			t.Errorf("%q has a note: %+v", name, r)
		}
		path := filepath.Join(dir.Path(), "journal", filepath.Base(name)+".json")
		if os.WriteFile(path, nil, 0o600) != nil {
			return // no name of a file
		}
		lineages, err := dir.JournalLineages()
		if err != nil || slices.ContainsFunc(lineages, func(lineage string) bool {
			return lineage == "." || !fs.ValidPath(lineage) || strings.ContainsRune(lineage, '/')
		}) {
			t.Errorf("%q, %v", lineages, err)
		}
		for _, lineage := range lineages {
			_, _ = dir.Lineage(lineage).Journal()
		}
		_ = os.Remove(path)
	})
}

package adopt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

// A lineage's name becomes part of paths: it is never empty, and never leaves the directory of lineages.
func TestLineageName(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{
		"mail":                 {"mail"},
		"mx.example.org":       {"MX.Example.ORG"},
		"wildcard.example.org": {"_.example.org"}, // lego's *.example.org
		"wildcard.example.net": {"*.example.net"}, // acme.sh's
		"etc-passwd":           {"../etc/passwd"},
		"b":                    {"..", "*", "b"},
		"host7.example":        {"\u00e4\u00f6\u00fc", "host7.example"},
		"imported":             {"-"},
	} {
		if got := adopt.LineageName(names...); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}

func FuzzLineageName(f *testing.F) {
	accepted := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	f.Add("Mail", "mx.example.org")
	f.Add("", "*")
	f.Fuzz(func(t *testing.T, name, domain string) {
		if got := adopt.LineageName(name, domain); !accepted.MatchString(got) {
			t.Errorf("%q, %q: %q", name, domain, got)
		}
	})
}

// A certificate whose name has nothing to use is stored under its first DNS name. Its section quotes a name that YAML would
// take for a number.
func TestTakeNames(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	store, dir := book(t)
	taken, err := take(t, store, foreign("---", b), adopt.Options{})
	if err != nil || taken.Name != "mx.example.org" {
		t.Errorf("%+v, %v", taken, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "lineages")); err != nil || len(entries) != 1 || entries[0].Name() != "mx.example.org" {
		t.Errorf("%v, %v", entries, err)
	}
	other, _ := book(t)
	taken, err = take(t, other, foreign("2025", b), adopt.Options{DryRun: true})
	if err != nil || !strings.Contains(taken.Proposal, `- name: "2025"`) {
		t.Errorf("%v, proposal:\n%s", err, taken.Proposal)
	}
}

// An account file of mxcert's own that is damaged does not keep the other client's account out, and is kept beside it.
func TestTakeOverDamagedAccount(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	store, dir := book(t)
	f := foreign("mx", b)
	f.Directory, f.Account = "https://ca.example/dir", adopt.Account{URL: "https://ca.example/acct/1", Key: b.KeyPEM()}
	if _, err := take(t, store, f, adopt.Options{}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "accounts/*/account.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Account.URL = "https://ca.example/acct/2"
	if taken, err := take(t, store, f, adopt.Options{}); err != nil || taken.Account != f.Account.URL {
		t.Errorf("%+v, %v", taken, err)
	}
	if account, ok, err := store.Account(f.Directory); err != nil || !ok || account.URL != f.Account.URL {
		t.Errorf("%+v, %v, %v", account, ok, err)
	}
	if beside, err := os.ReadDir(filepath.Dir(files[0])); err != nil || len(beside) < 2 {
		t.Errorf("the damaged file is gone: %v, %v", beside, err)
	}
}

// While another process works on the lineage, import waits, and gives up without a change when its time is over.
func TestTakeWaitsForTheLock(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	store, _ := book(t)
	unlock, err := store.Lineage("mx").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f := foreign("mx", b)
	if taken := adopt.Take(ctx, store, []adopt.Foreign{f}, adopt.Options{})[0]; !errors.Is(taken.Err, state.ErrLocked) || taken.Stored || taken.Serial != b.Serial() {
		t.Errorf("%+v", taken)
	}
	unlock()
	if generations, err := store.Lineage("mx").Generations(); err != nil || len(generations) != 0 {
		t.Errorf("%v, %v", generations, err)
	}
}

// A key that mxcert revoked as compromised does not come back from the tree of another client, not even with --force.
func TestTakeRefusesACompromisedKey(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	store, _ := book(t)
	f := foreign("mx", b)
	if taken, err := take(t, store, f, adopt.Options{}); err != nil || !taken.Stored {
		t.Fatalf("%+v, %v", taken, err)
	}
	lineage := store.Lineage("mx")
	generations, err := lineage.Generations()
	if err != nil || len(generations) != 1 {
		t.Fatalf("%v, %v", generations, err)
	}
	if err := lineage.SaveRevocation(generations[0].ID, state.Revocation{KeyCompromised: true}); err != nil {
		t.Fatal(err)
	}
	taken, err := take(t, store, f, adopt.Options{Force: true})
	if err == nil || !strings.Contains(err.Error(), "compromised") || taken.Stored {
		t.Errorf("%+v, %v", taken, err)
	}
	if generations, err := lineage.Generations(); err != nil || len(generations) != 1 {
		t.Errorf("%v, %v", generations, err)
	}
}

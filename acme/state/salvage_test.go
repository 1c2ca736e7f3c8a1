package state_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// TestSalvagedAccount: a key that can be read in a damaged file is the account.
func TestSalvagedAccount(t *testing.T) {
	dir := open(t)
	signer, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	text, err := bundle.MarshalKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	key := string(text)
	const ca = "https://ca.example/dir"
	if err := dir.SaveAccount(state.Account{Directory: ca, Email: "a@example.org", URL: "https://ca.example/acct/1", Key: key}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir.Path(), "accounts", "ca.example_dir", "account.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := strings.Index(string(whole), "-----END") + len("-----END PRIVATE KEY-----")
	for _, tt := range []struct {
		what, text string
		key, url   bool
	}{
		{"without its end", string(whole[:end]), true, true},
		{"the key is cut", string(whole[:end-30]), false, true},
		{"the URL is gone", strings.Replace(string(whole), `"url"`, `"uuu`, 1), true, false},
		{"empty", "", false, false},
		{"zeros", strings.Repeat("\x00", len(whole)), false, false},
		{"the key's letters are changed", strings.Replace(string(whole), "MIG", "XXX", 1) + "}", false, true},
	} {
		write(t, tt.text, path)
		got := dir.SalvageAccount(ca)
		if (got.Key == key) != tt.key || (got.Key != "") != tt.key || (got.URL == "https://ca.example/acct/1") != tt.url || got.Directory != ca {
			t.Errorf("%s: %+v", tt.what, got)
		}
	}
	// A process died after it had set the damaged file aside.
	write(t, string(whole[:end]), path+".damaged")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := dir.SalvageAccount(ca); got.Key != key {
		t.Errorf("set aside: %+v", got)
	}
	if got := dir.SalvageAccount("https://none.example/dir"); got.Key != "" || got.URL != "" {
		t.Errorf("there is none: %+v", got)
	}
}

package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/authority"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// accounts runs an account command with --json; the exit code must be the wanted one.
func (h *host) accounts(code report.Code, args ...string) accountsReport {
	h.t.Helper()
	got := h.run(append(append([]string{"account"}, args...), "--json")...)
	var r accountsReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("%v printed no JSON (%v):\n%s\n%s", args, err, got.stdout, got.stderr)
	}
	if got.code != code {
		h.t.Fatalf("%v exited with %d, want %d:\n%s\n%s", args, got.code, code, got.stdout, got.stderr)
	}
	if strings.Contains(got.stdout+got.stderr, "PRIVATE") {
		h.t.Errorf("%v shows a key:\n%s\n%s", args, got.stdout, got.stderr)
	}
	return r
}

// accountFile is the one file of an account.
func (h *host) accountFile() string {
	h.t.Helper()
	paths, err := filepath.Glob(h.Path("state", "accounts", "*", "account.json"))
	if err != nil || len(paths) != 1 {
		h.t.Fatalf("%v, %v", paths, err)
	}
	return paths[0]
}

// rewrite changes a text in a file.
func (h *host) rewrite(path, old, replacement string) {
	h.t.Helper()
	text, err := os.ReadFile(path)
	h.check(err)
	if !strings.Contains(string(text), old) {
		h.t.Fatalf("%s has no %q", path, old)
	}
	h.check(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600))
}

// The account from nothing to a new key, and what show says where nobody can be asked.
func TestAccountCommands(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if r := h.accounts(report.CodeOK, "show"); r.Changed || len(r.Accounts) != 1 || r.Accounts[0].Status != "none" || r.Accounts[0].URL != "" || r.Accounts[0].Error != nil {
		t.Errorf("before there is one: %+v", r)
	}
	if _, err := os.Stat(h.Path("state", "accounts")); err == nil {
		t.Error("show made something")
	}
	first := h.accounts(report.CodeChanged, "register", "--detailed-exitcode")
	account := first.Accounts[0]
	if !first.Changed || !account.Changed || account.Status != "valid" || !account.Asked || account.URL == "" || account.Terms.Agreed == "" ||
		account.Key == nil || account.Key.Type != "ec256" || len(account.Contact) != 1 || account.Contact[0] != "mailto:postmaster@example.org" || !account.Configured {
		t.Errorf("registered: %+v", account)
	}
	if r := h.accounts(report.CodeOK, "register", "--detailed-exitcode"); r.Changed || r.Accounts[0].URL != account.URL {
		t.Errorf("registered again: %+v", r)
	}
	h.edit("email: postmaster@example.org", "email: hostmaster@example.org")
	if r := h.accounts(report.CodeOK, "register"); !r.Changed || r.Accounts[0].URL != account.URL || r.Accounts[0].Contact[0] != "mailto:hostmaster@example.org" {
		t.Errorf("another address: %+v", r)
	}
	h.report(report.CodeOK, "renew")
	if n := h.CA.Count(ca.NewAccount); n != 1 {
		t.Errorf("%d requests for an account", n)
	}
	rolled := h.accounts(report.CodeOK, "rollover")
	if now := rolled.Accounts[0]; !rolled.Changed || now.URL != account.URL || now.Key.Thumbprint == account.Key.Thumbprint || now.Status != "valid" || now.Key.Pending {
		t.Errorf("rolled over: %+v", rolled)
	}
	h.report(report.CodeOK, "renew", "--now")

	text := h.run("account", "show")
	for _, part := range []string{account.URL, "valid", rolled.Accounts[0].Key.Thumbprint, "hostmaster@example.org"} {
		if !strings.Contains(text.stdout, part) || text.code != report.CodeOK {
			t.Errorf("show lacks %q:\n%s", part, text.stdout)
		}
	}
	h.check(h.CA.Close())
	if r := h.accounts(report.CodeOK, "show"); r.Accounts[0].Asked || r.Accounts[0].Status != "" || r.Accounts[0].URL != account.URL || r.Accounts[0].Error == nil || r.Accounts[0].Error.Kind != "ca-unreachable" {
		t.Errorf("nobody to ask: %+v", r.Accounts[0])
	}
	if text := h.run("account", "show"); !strings.Contains(text.said(), "the rest is from the stored account") || text.code != report.CodeOK {
		t.Errorf("nobody to ask, exit code %d:\n%s", text.code, text.stdout)
	}
	if r := h.accounts(report.CodeTemporary, "rollover"); r.Changed || r.Accounts[0].Error.Hint == "" {
		t.Errorf("a rollover without the CA: %+v", r)
	}
	if r := h.accounts(report.CodeOK, "show"); !r.Accounts[0].Key.Pending {
		t.Errorf("then: %+v", r.Accounts[0])
	}
}

// What an operator has to know about the account is in the report, the history and what is shown, not only on the screen.
func TestAccountNotices(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	url := h.accounts(report.CodeOK, "show").Accounts[0].URL
	gone := url + "0"
	h.rewrite(h.accountFile(), url, gone)
	if r := h.accounts(report.CodeOK, "show"); r.Accounts[0].Status != "unknown" || !r.Accounts[0].Asked {
		t.Errorf("an account that the CA does not know: %+v", r.Accounts[0])
	}
	r := h.report(report.CodeOK, "renew", "--now")
	if text := strings.Join(r.Certificates[0].Warnings, "\n"); !strings.Contains(text, gone) || !strings.Contains(text, url) || !strings.Contains(text, "accounturi") {
		t.Errorf("the report does not say it: %q", text)
	}
	if got := h.run("history", "mx"); !strings.Contains(got.stdout, " account ") || !strings.Contains(got.stdout, gone) {
		t.Errorf("the history does not say it:\n%s", got.stdout)
	}
	if r := h.accounts(report.CodeOK, "show"); len(r.Accounts[0].Former) != 1 || r.Accounts[0].Former[0].URL != gone {
		t.Errorf("show does not say it: %+v", r.Accounts[0])
	}

	// It is said also when the order fails.
	h.rewrite(h.accountFile(), `"url": "`+url+`"`, `"url": "`+gone+`"`)
	h.CA.SetWrap(ca.OutOfOrder(ca.Authz))
	r = h.report(report.CodeTemporary, "renew", "--now")
	if text := strings.Join(r.Certificates[0].Warnings, "\n"); !strings.Contains(text, gone) {
		t.Errorf("the report of a failure does not say it: %q", text)
	}
	h.CA.SetWrap(nil)

	// The file is lost.
	h.check(os.RemoveAll(h.Path("state", "accounts")))
	r = h.report(report.CodeOK, "renew", "--now")
	if text := strings.Join(r.Certificates[0].Warnings, "\n"); !strings.Contains(text, "mxcert registers a new account") {
		t.Errorf("the report does not say that the account was lost: %q", text)
	}
}

// secondCA starts another CA and puts it into the configuration behind the lab's own.
func (h *host) secondCA(options ca.Options) *ca.CA {
	h.t.Helper()
	second := h.AddCA(h.t, options)
	h.edit(fmt.Sprintf("directory: %q", h.CA.DirectoryURL()), fmt.Sprintf("directory: [%q, %q]", h.CA.DirectoryURL(), second.DirectoryURL()))
	return second
}

// Several CAs: each has its account, --ca chooses, one that is away does not hide the others.
func TestAccountsOfSeveralCAs(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	second := h.secondCA(ca.Options{})
	if r := h.accounts(report.CodeOK, "register", "--ca", second.DirectoryURL()); len(r.Accounts) != 1 || r.Accounts[0].Directory != second.DirectoryURL() {
		t.Errorf("--ca: %+v", r)
	}
	if n := h.CA.Count(); n != 0 {
		t.Errorf("the other CA had %d requests", n)
	}
	if got := h.run("account", "register", "--ca", "nosuch.example"); got.code != report.CodeUsage || !strings.Contains(got.stderr, authority.Name(second.DirectoryURL())) {
		t.Errorf("no such CA: %d\n%s", got.code, got.stderr)
	}
	h.CA.SetWrap(ca.OutOfOrder(ca.NewAccount))
	r := h.accounts(report.CodeSome, "register")
	if r.Changed || len(r.Accounts) != 2 || r.Accounts[0].Error == nil || r.Accounts[0].Error.Stage != "account" || r.Accounts[1].Error != nil {
		t.Errorf("one CA is away: %+v", r)
	}
	h.CA.SetWrap(nil)
	if r := h.accounts(report.CodeOK, "register"); !r.Changed || !r.Accounts[0].Changed || r.Accounts[1].Changed {
		t.Errorf("then: %+v", r)
	}
	h.edit(fmt.Sprintf("directory: [%q, %q]", h.CA.DirectoryURL(), second.DirectoryURL()), fmt.Sprintf("directory: %q", second.DirectoryURL()))
	r = h.accounts(report.CodeOK, "show")
	if len(r.Accounts) != 2 || r.Accounts[1].Configured || r.Accounts[1].Directory != h.CA.DirectoryURL() || r.Accounts[1].URL == "" || r.Accounts[1].Asked {
		t.Errorf("a CA that is not configured any more: %+v", r)
	}
}

// A binding, and an account that was ended.
func TestAccountBindingAndEnd(t *testing.T) {
	t.Parallel()
	key := base64.RawURLEncoding.EncodeToString([]byte("thirty-two bytes of a shared key"))
	h := newHost(t, lab.Options{CA: ca.Options{EAB: map[string]string{"kid-1": key}}}, lab.ConfigOptions{})
	if r := h.accounts(report.CodeFailed, "register"); r.Changed && r.Accounts[0].URL != "" || !strings.Contains(r.Accounts[0].Error.Hint, "acme.eab.kid") {
		t.Errorf("without a binding: %+v", r)
	}
	h.check(os.WriteFile(h.Path("credentials", "eab"), []byte(key), 0o600))
	h.edit("  agree_tos: true", fmt.Sprintf("  agree_tos: true\n  eab: {kid: kid-1, hmac_key: %q}", "file:"+h.Path("credentials", "eab")))
	before := h.accounts(report.CodeOK, "register").Accounts[0]
	h.accounts(report.CodeOK, "rollover")
	h.report(report.CodeOK, "renew")
	h.check(h.CA.Deactivate(before.URL))
	if r := h.accounts(report.CodeOK, "show"); r.Accounts[0].Status != "refused" || r.Accounts[0].Error == nil {
		t.Errorf("ended: %+v", r)
	}
	for _, args := range [][]string{{"account", "register"}, {"account", "rollover"}, {"renew", "--now"}} {
		got := h.run(args...)
		if got.code != report.CodeFailed || !strings.Contains(got.stdout, "mxcert account register --replace") {
			t.Errorf("%v of an ended account: %d\n%s", args, got.code, got.stdout)
		}
	}
	after := h.accounts(report.CodeOK, "register", "--replace")
	if now := after.Accounts[0]; !after.Changed || now.URL == before.URL || len(now.Former) != 1 || now.Former[0].URL != before.URL || len(now.Warnings) == 0 || !strings.Contains(now.Warnings[0], before.URL) {
		t.Errorf("replaced: %+v", after)
	}
	h.report(report.CodeOK, "renew", "--now")
}

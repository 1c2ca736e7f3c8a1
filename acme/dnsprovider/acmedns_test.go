package dnsprovider_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

// acmeDNSServer speaks the API of acme-dns (https://github.com/joohoi/acme-dns#api), and keeps its records in example.com.
type acmeDNSServer struct {
	*httptest.Server
	mu       sync.Mutex
	accounts []string // full domains
	updates  []string // subdomain and value
	down     bool
}

func newACMEDNSServer(t *testing.T) *acmeDNSServer {
	t.Helper()
	s := &acmeDNSServer{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /register", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		sub := fmt.Sprintf("account%d", len(s.accounts)+1)
		s.accounts = append(s.accounts, sub+".example.com")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"username": "u-" + sub, "password": "very-secret", "fulldomain": sub + ".example.com", "subdomain": sub, "allowfrom": []string{}})
	})
	mux.HandleFunc("POST /update", func(w http.ResponseWriter, r *http.Request) {
		var update struct{ Subdomain, TXT string }
		if json.NewDecoder(r.Body).Decode(&update) != nil || r.Header.Get("X-Api-Key") != "very-secret" || r.Header.Get("X-Api-User") != "u-"+update.Subdomain {
			http.Error(w, `{"error":"forbidden"}`, http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.updates = append(s.updates, update.Subdomain)
		_ = json.NewEncoder(w).Encode(map[string]string{"txt": update.TXT})
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *acmeDNSServer) count() (accounts, updates int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accounts), len(s.updates)
}

// acmeDNSSolver makes a Solver as each pass does, and the records of an order for these names.
func acmeDNSSolver(t *testing.T, server *acmeDNSServer, path, nameserver string, names ...string) (dnsprovider.Solver, []dnsprovider.TXT) {
	t.Helper()
	resolver := resolve.New([]string{nameserver})
	solver, err := dnsprovider.New("acme-dns", map[string]string{"ACME_DNS_API_BASE": server.URL, "ACME_DNS_STORAGE_PATH": path}, resolver)
	if err != nil {
		t.Fatal(err)
	}
	records := dnsprovider.Challenges(t.Context(), resolver, names)
	for i := range records {
		records[i].Value, records[i].Token, records[i].KeyAuth = strings.Repeat("v", 43), "t", "k"
	}
	return solver, records
}

func wants(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	e, ok := errors.AsType[*dnsprovider.Error](err)
	if !ok {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, text := range says {
		if !strings.Contains(e.Error()+" → "+e.Hint(), text) {
			t.Errorf("%s: %v\n→ %s\nlacks %q", what, err, e.Hint(), text)
		}
	}
	if strings.Contains(err.Error()+e.Hint(), "very-secret") {
		t.Errorf("%s: a password in %v", what, err)
	}
}

// TestACMEDNS: which alias has to be made is said until it is there, for all names at once, and only then records are made.
func TestACMEDNS(t *testing.T) {
	t.Parallel()
	w, dns := newWorld(t)
	server, path := newACMEDNSServer(t), filepath.Join(t.TempDir(), "accounts.json")
	names := []string{"mx.example.org", "host7.example.org", "*.host7.example.org"}
	both := []string{"_acme-challenge.mx.example.org. CNAME account1.example.com.", "_acme-challenge.host7.example.org. CNAME account2.example.com."}

	solver, records := acmeDNSSolver(t, server, path, dns.Address(), names...)
	wants(t, "a check before there are accounts", solver.(dnsprovider.Checker).Check(t.Context(), records),
		"_acme-challenge.mx.example.org, _acme-challenge.host7.example.org", "no account yet in "+path, "mxcert renew registers")
	if n, _ := server.count(); n != 0 {
		t.Errorf("the check has registered %d accounts", n)
	}
	wants(t, "the first run", solver.(dnsprovider.Preparer).Prepare(t.Context(), records), both...)
	for range 3 { // runs of other processes
		solver, records = acmeDNSSolver(t, server, path, dns.Address(), names...)
		wants(t, "prepare", solver.(dnsprovider.Preparer).Prepare(t.Context(), records), append(both, "there is no alias")...)
		wants(t, "check", solver.(dnsprovider.Checker).Check(t.Context(), records), both...)
		wants(t, "present", solver.Present(t.Context(), records), both...)
	}
	if accounts, updates := server.count(); accounts != 2 || updates != 0 {
		t.Errorf("%d accounts, %d updates", accounts, updates)
	}

	if err := w.Add("_acme-challenge.mx.example.org. CNAME account1.example.com.", "_acme-challenge.host7.example.org. CNAME other.example.com."); err != nil {
		t.Fatal(err)
	}
	solver, records = acmeDNSSolver(t, server, path, dns.Address(), names...)
	err := solver.(dnsprovider.Preparer).Prepare(t.Context(), records)
	wants(t, "an alias that leads elsewhere", err, both[1], "its alias leads to other.example.com")
	if strings.Contains(err.Error(), "mx.example.org") {
		t.Errorf("what is right is in %v", err)
	}

	if err := errors.Join(w.Remove("_acme-challenge.host7.example.org."), w.Add("_acme-challenge.host7.example.org. CNAME Account2.example.com.")); err != nil {
		t.Fatal(err)
	}
	solver, records = acmeDNSSolver(t, server, path, dns.Address(), names...)
	if err := errors.Join(solver.(dnsprovider.Preparer).Prepare(t.Context(), records), solver.(dnsprovider.Checker).Check(t.Context(), records),
		solver.Present(t.Context(), records), solver.CleanUp(t.Context(), records)); err != nil {
		t.Error(err)
	}
	if server.updates = slices.Sorted(slices.Values(server.updates)); !slices.Equal(server.updates, []string{"account1", "account2"}) {
		t.Errorf("updates: %v", server.updates)
	}
}

// TestACMEDNSStorage: whether an account can be stored is known before it is registered.
func TestACMEDNSStorage(t *testing.T) {
	t.Parallel()
	_, dns := newWorld(t)
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for what, tt := range map[string]struct{ path, says, hint string }{
		"no directory":       {filepath.Join(directory, "none", "a.json"), "no such file or directory", "install -d"},
		"a directory":        {directory, "cannot read " + directory + ": is a directory", "ACME_DNS_STORAGE_PATH"},
		"not JSON":           {write("damaged.json", `{"mx.example.org":`), "not a file of acme-dns accounts", "backup"},
		"another list":       {write("list.json", `[]`), "not a file of acme-dns accounts", "backup"},
		"an account without": {write("bare.json", `{"mx.example.org":{"username":"u"}}`), "no fulldomain", "remove this account"},
	} {
		server := newACMEDNSServer(t)
		for range 2 {
			solver, records := acmeDNSSolver(t, server, tt.path, dns.Address(), "mx.example.org")
			for _, act := range []func() error{
				func() error { return solver.(dnsprovider.Preparer).Prepare(t.Context(), records) },
				func() error { return solver.(dnsprovider.Checker).Check(t.Context(), records) },
				func() error { return solver.Present(t.Context(), records) },
			} {
				wants(t, what, act(), tt.says, tt.path, tt.hint)
			}
		}
		if n, _ := server.count(); n != 0 {
			t.Errorf("%s: %d accounts were registered", what, n)
		}
	}
	if text, err := os.ReadFile(filepath.Join(directory, "damaged.json")); err != nil || string(text) != `{"mx.example.org":` {
		t.Errorf("the damaged file is %q now, %v", text, err)
	}
	server := newACMEDNSServer(t)
	solver, records := acmeDNSSolver(t, server, write("empty.json", ""), dns.Address(), "mx.example.org")
	wants(t, "an empty file", solver.(dnsprovider.Preparer).Prepare(t.Context(), records), "CNAME account1.example.com.")
	server.down = true
	solver, records = acmeDNSSolver(t, server, filepath.Join(directory, "new.json"), dns.Address(), "mx.example.org")
	err := solver.(dnsprovider.Preparer).Prepare(t.Context(), records)
	wants(t, "a server that is down", err, "cannot register an account for", "503")
	if e, ok := errors.AsType[*dnsprovider.Error](err); ok && !e.Temporary() {
		t.Errorf("%v is final", err)
	}
}

// TestACMEDNSTogether: two certificates that register at the same time keep each other's accounts.
func TestACMEDNSTogether(t *testing.T) {
	t.Parallel()
	_, dns := newWorld(t)
	server, path := newACMEDNSServer(t), filepath.Join(t.TempDir(), "accounts.json")
	var all sync.WaitGroup
	for i := range 8 {
		solver, records := acmeDNSSolver(t, server, path, dns.Address(), fmt.Sprintf("mx%d.example.org", i/2))
		all.Go(func() {
			wants(t, "prepare", solver.(dnsprovider.Preparer).Prepare(t.Context(), records), "CNAME account")
		})
	}
	all.Wait()
	var stored map[string]any
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &stored) != nil || len(stored) != 4 {
		t.Errorf("%s, %v", text, err)
	}
	if n, _ := server.count(); n != 4 {
		t.Errorf("%d accounts for four names", n)
	}
}

// TestACMEDNSStorageServer: the same with accounts on a server, of which a password may be in the URL.
func TestACMEDNSStorageServer(t *testing.T) {
	t.Parallel()
	_, dns := newWorld(t)
	server := newACMEDNSServer(t)
	accounts, status := map[string][]byte{}, http.StatusOK
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		domain := strings.TrimPrefix(r.URL.Path, "/store/")
		switch text, known := accounts[domain]; {
		case status != http.StatusOK:
			w.WriteHeader(status)
		case r.Method == http.MethodPost:
			var v json.RawMessage
			_ = json.NewDecoder(r.Body).Decode(&v)
			accounts[domain] = v
		case !known:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write(text)
		}
	}))
	t.Cleanup(storage.Close)
	base := strings.Replace(storage.URL, "http://", "http://me:very-secret@", 1) + "/store"
	resolver := resolve.New([]string{dns.Address()})
	solver, err := dnsprovider.New("acme-dns", map[string]string{"ACME_DNS_API_BASE": server.URL, "ACME_DNS_STORAGE_BASE_URL": base}, resolver)
	if err != nil {
		t.Fatal(err)
	}
	records := dnsprovider.Challenges(t.Context(), resolver, []string{"mx.example.org"})
	for range 2 {
		wants(t, "prepare", solver.(dnsprovider.Preparer).Prepare(t.Context(), records), "_acme-challenge.mx.example.org. CNAME account1.example.com.")
	}
	status = http.StatusInternalServerError
	wants(t, "a server that fails", solver.(dnsprovider.Checker).Check(t.Context(), records), "ACME_DNS_STORAGE_BASE_URL", "it answered 500")
	storage.Close()
	wants(t, "a server that is away", solver.(dnsprovider.Checker).Check(t.Context(), records), "ACME_DNS_STORAGE_BASE_URL")
}

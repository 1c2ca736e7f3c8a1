package cttest

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/ct/sct"
)

// Index is what services know of the logs.
type Index struct {
	Token string // that Cert Spotter asks for; "" if it asks for none
	Size  int    // of its pages; 0 is 3

	mu    sync.Mutex
	list  []*x509.Certificate
	fault http.HandlerFunc
	asked []string
}

// Add lets the services find certificates or pre-certificates.
func (x *Index) Add(list ...*x509.Certificate) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, list...)
}

// Fail makes all answers those of a handler; nil ends that.
func (x *Index) Fail(how http.HandlerFunc) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fault = how
}

// Asked returns the queries of the requests so far, and forgets them.
func (x *Index) Asked() (queries []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	queries, x.asked = x.asked, nil
	return queries
}

// Serve starts a server: Cert Spotter's API at its URL, and crt.sh at its root.
func (x *Index) Serve(t testing.TB) (address string) {
	server := httptest.NewServer(http.HandlerFunc(x.serve))
	t.Cleanup(server.Close)
	return server.URL
}

// Answer returns the answer to a request, as seed for fuzzing.
func (x *Index) Answer(t testing.TB, target string) string {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.Header.Set("User-Agent", "mxcert/1")
	w := httptest.NewRecorder()
	x.serve(w, r)
	return w.Body.String()
}

func (x *Index) serve(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	x.asked = append(x.asked, r.URL.RawQuery)
	fault := x.fault
	list := slices.Clone(x.list)
	x.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r)
	case r.Method != http.MethodGet || !strings.HasPrefix(r.UserAgent(), "mxcert"):
		http.Error(w, "no", http.StatusTeapot)
	case r.URL.Path == "/v1/issuances":
		x.certSpotter(w, r, list)
	case r.URL.Path == "/":
		crtSh(w, r.URL.Query(), list)
	default:
		http.NotFound(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": "The request is refused."})
}

func (x *Index) certSpotter(w http.ResponseWriter, r *http.Request, list []*x509.Certificate) {
	q := r.URL.Query()
	for name := range q {
		if !slices.Contains([]string{"domain", "include_subdomains", "match_wildcards", "after", "expand"}, name) {
			refuse(w, http.StatusBadRequest, "unknown_parameter")
			return
		}
	}
	domain := q.Get("domain")
	switch {
	case x.Token != "" && r.Header.Get("Authorization") != "Bearer "+x.Token:
		refuse(w, http.StatusUnauthorized, "unauthorized")
		return
	case len(q["domain"]) != 1 || domain != strings.ToLower(domain) || strings.Contains(domain, "*") || !strings.Contains(domain, "."):
		refuse(w, http.StatusBadRequest, "invalid_domain")
		return
	}
	first := 0
	if after := q.Get("after"); after != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(after, "i"))
		if err != nil {
			refuse(w, http.StatusBadRequest, "invalid_after")
			return
		}
		first = n + 1
	}
	page := []map[string]any{}
	size := x.Size
	if size == 0 {
		size = 3
	}
	for i := first; i < len(list) && len(page) < size; i++ {
		if matches(list[i], domain, q.Get("include_subdomains") == "true", q.Get("match_wildcards") == "true") && !same(list[:i], list[i]) {
			page = append(page, issuance(i, list[i], q["expand"]))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(page)
}

// same reports whether an issuance is there already: the service knows a certificate and its pre-certificate as one.
func same(list []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(list, func(other *x509.Certificate) bool { return sct.Hash(other) == sct.Hash(c) })
}

func matches(c *x509.Certificate, domain string, below, wild bool) bool {
	_, parent, _ := strings.Cut(domain, ".")
	return slices.ContainsFunc(c.DNSNames, func(name string) bool {
		return name == domain || below && strings.HasSuffix(name, "."+domain) || wild && name == "*."+parent
	})
}

func issuance(i int, c *x509.Certificate, expand []string) map[string]any {
	one := map[string]any{"id": fmt.Sprintf("i%d", i), "tbs_sha256": sct.Hash(c), "cert_sha256": bundle.SPKIOf(c.Raw), "pubkey_sha256": bundle.SPKIOf(c.RawSubjectPublicKeyInfo),
		"not_before": c.NotBefore.UTC().Format("2006-01-02T15:04:05Z"), "not_after": c.NotAfter.UTC().Format("2006-01-02T15:04:05Z"), "revoked": false}
	for _, field := range expand {
		switch field {
		case "dns_names":
			one[field] = c.DNSNames
		case "issuer":
			one[field] = map[string]any{"friendly_name": c.Issuer.CommonName, "name": c.Issuer.String(), "pubkey_sha256": "", "website": "https://ca.example/"}
		case "cert_der":
			one[field] = c.Raw
		case "revocation":
			one[field] = map[string]any{"time": nil, "reason": nil, "checked_at": nil}
		}
	}
	return one
}

func crtSh(w http.ResponseWriter, q url.Values, list []*x509.Certificate) {
	if id := q.Get("d"); id != "" {
		n, err := strconv.Atoi(id)
		if err != nil || n < 1 || n > len(list) {
			http.NotFound(w, &http.Request{})
			return
		}
		w.Header().Set("Content-Type", "application/pkix-cert")
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: list[n-1].Raw})
		return
	}
	if q.Get("output") != "json" || q.Get("exclude") != "expired" {
		http.Error(w, "<HTML><BODY>crt.sh</BODY></HTML>", http.StatusOK)
		return
	}
	pattern, rows := q.Get("q"), []map[string]any{}
	for i, c := range list {
		suffix, below := strings.CutPrefix(pattern, "%")
		if !slices.ContainsFunc(c.DNSNames, func(name string) bool { return name == pattern || below && strings.HasSuffix(name, suffix) }) {
			continue
		}
		rows = append(rows, map[string]any{"issuer_ca_id": 7, "issuer_name": c.Issuer.String(), "common_name": c.Subject.CommonName, "name_value": strings.Join(c.DNSNames, "\n"), "id": i + 1,
			"entry_timestamp": c.NotBefore.UTC().Format("2006-01-02T15:04:05.000"), "not_before": c.NotBefore.UTC().Format("2006-01-02T15:04:05"), "not_after": c.NotAfter.UTC().Format("2006-01-02T15:04:05"),
			"serial_number": bundle.SerialOf(c), "result_count": 2})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(rows)
}

package pass

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// TestAliasesBeforeTheOrder: as long as acme-dns needs an alias that is not there, no order is placed, and each pass says which.
func TestAliasesBeforeTheOrder(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Domains: []string{"mx.example.org"}})
	var registered atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/register" {
			registered.Add(1)
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, `{"username":"u","password":"p","fulldomain":"a1.example.net","subdomain":"a1","allowfrom":[]}`)
			return
		}
		var update struct{ TXT string }
		if err := json.NewDecoder(r.Body).Decode(&update); err != nil {
			t.Error(err)
		}
		h.check(h.World.Replace(`a1.example.net. TXT "` + update.TXT + `"`))
		_, _ = fmt.Fprintf(w, `{"txt":%q}`, update.TXT)
	}))
	t.Cleanup(server.Close)
	h.check(h.World.AddZone("example.net", "@ NS ns1.example.org."))
	text := h.text()
	before, rest, _ := strings.Cut(text, "  provider: rfc2136\n")
	_, after, _ := strings.Cut(rest, "  resolvers:")
	h.write(fmt.Sprintf("%s  provider: acme-dns\n  env: {ACME_DNS_API_BASE: %q, ACME_DNS_STORAGE_PATH: %q}\n  resolvers:%s", before, server.URL, h.Path("none", "acme-dns.json"), after))

	if c := h.pass(report.CodeFailed, renew); c.Error.Stage != "dns" || !strings.Contains(c.Error.Message, h.Path("none", "acme-dns.json")) || registered.Load() != 0 {
		t.Errorf("a storage that cannot be written: %+v, %d accounts", c.Error, registered.Load())
	}
	h.edit("/none/", "/")
	for range 3 {
		if c := h.pass(report.CodeFailed, renew); c.Error.Stage != "dns" || !strings.Contains(c.Error.Hint, "_acme-challenge.mx.example.org. CNAME a1.example.net.") {
			t.Errorf("without an alias: %+v", c.Error)
		}
	}
	if h.placed() != 0 || registered.Load() != 1 {
		t.Errorf("%d orders, %d accounts", h.placed(), registered.Load())
	}
	h.check(h.World.Add("_acme-challenge.mx.example.org. CNAME a1.example.net."))
	if c := h.pass(report.CodeOK, renew); c.Stage != report.Served {
		t.Errorf("with the alias: %+v", c)
	}
}

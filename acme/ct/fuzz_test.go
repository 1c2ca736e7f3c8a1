package ct_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"mxcert/acme/ct"
	"mxcert/acme/ct/cttest"
)

// answers is a service that gives one answer to everything, without a network.
type answers struct{ text string }

func (a *answers) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(a.text))
}

// checkEntries checks what is promised about entries, whatever a service has answered.
func checkEntries(t *testing.T, list []ct.Entry, source string) {
	t.Helper()
	names := ct.Names{}
	names.Add("mx", []string{"mx.example.org", "*.example.net"})
	for _, e := range list {
		if e.Source != source || len(e.Issuer) > 1000 || strings.ContainsAny(e.Issuer+e.Serial+e.Link, "\x00\x1b\r\n") {
			t.Errorf("%q by %q", e.Serial, e.Issuer)
		}
		if e.SPKI != "" && (len(e.SPKI) != 64 || strings.Trim(e.SPKI, "0123456789abcdef") != "") {
			t.Errorf("the key is %q", e.SPKI)
		}
		if serial := strings.Trim(e.Serial, "0123456789abcdef"); source == "certspotter" && serial != "" {
			t.Errorf("the serial is %q", e.Serial)
		}
		owners, shared := names.Owners(e), names.Shared(e)
		if (len(owners) > 0) != (len(shared) > 0) {
			t.Errorf("%q concerns %q by %q", e.Names, owners, shared)
		}
		m := &ct.Memory{Learned: map[string]int64{"mx.example.org": 1}}
		m.Unknown = append(m.Unknown, ct.Unknown{Entry: e, Seen: time.Unix(0, 0)})
		for _, f := range m.Findings(names, func(string) []string { return nil }, nil, time.Unix(1, 0))["mx"] {
			if strings.ContainsAny(f.Message+f.Subject+f.Hint, "\x00\x1b\r\n") || len(f.Message) > 20_000 {
				t.Errorf("%q", f)
			}
		}
		m.Accept(e) // it may not break the lists, which have one line for each
		if known, _ := m.Knows(e, ct.NewOurs()); !known && e.ID() != "" {
			t.Errorf("%q is accepted and not known", e.ID())
		}
	}
}

func fuzzSource(f *testing.F, source func(address string) ct.Source, seed func(index *cttest.Index) string) {
	ca, index := cttest.NewCA(f, "CA"), &cttest.Index{}
	c, pre := ca.Issue(f, cttest.Template(f, time.Now().Add(month), "mx.example.org", "*.example.net"), cttest.Key(f).Public())
	index.Add(pre, c)
	f.Add(seed(index))
	for _, text := range []string{`[]`, `[{}]`, `[{"id":"1"}]`, `[{"id":"1","dns_names":["\u0000","*.","mx.example.org\n"],"pubkey_sha256":"zz"}]`, `[{"id":7,"serial_number":"-0 1","name_value":"a\nmx.example.org","issuer_name":"\u001b[2J","not_before":"2026-01-01T00:00:00","not_after":"9999-12-31T23:59:59"}]`,
		`[{"id":"1","cert_der":"MAA=","not_after":"2026-01-01T00:00:00Z","dns_names":["mx.example.org"]}]`} {
		f.Add(text)
	}
	a := &answers{}
	fake := &cttest.Index{}
	fake.Fail(a.serve)
	s := source(fake.Serve(f))
	f.Fuzz(func(t *testing.T, text string) {
		a.text = text
		page, err := s.Since(t.Context(), ct.Question{Name: "mx.example.org"}, "")
		if err != nil {
			if len(page.Entries) > 0 || len(err.Error()) > 1000 {
				t.Errorf("%v with %d entries", err, len(page.Entries))
			}
			return
		}
		if strings.ContainsAny(page.Cursor, " \r\n\t") {
			t.Errorf("the cursor %q cannot be remembered", page.Cursor)
		}
		checkEntries(t, page.Entries, s.Name())
	})
}

// FuzzCertSpotter gives a source any answer of the service.
func FuzzCertSpotter(f *testing.F) {
	fuzzSource(f, func(address string) ct.Source { return ct.CertSpotter(address, "mxcert/1", nil) }, func(index *cttest.Index) string {
		return index.Answer(f, "/v1/issuances?domain=mx.example.org&expand=dns_names&expand=issuer&expand=cert_der")
	})
}

// FuzzCrtSh gives a source any answer of crt.sh.
func FuzzCrtSh(f *testing.F) {
	fuzzSource(f, func(address string) ct.Source { return ct.CrtSh(address, "mxcert/1") }, func(index *cttest.Index) string {
		return index.Answer(f, "/?q=mx.example.org&output=json&exclude=expired")
	})
}

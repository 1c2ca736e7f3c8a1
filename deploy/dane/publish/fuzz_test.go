package publish_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane/publish"
)

// answering is a transport that gives every request the same answer.
type answering struct {
	status int
	body   string
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	header := http.Header{"Content-Type": {"application/json"}, "Location": {a.body}, "Retry-After": {a.body}}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// FuzzAnswers reads what services say that mean harm: no panic, no secret in a message, and each record can be written again.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		`{"name":"example.test.","kind":"Native","rrsets":[{"name":"_25._tcp.mx.example.test.","type":"TLSA","ttl":3600,"records":[{"content":"3 1 1 00","disabled":true},{"content":"x"}]}]}`,
		`{"name":"example.test.","rrsets":[{"name":"_25._tcp.mx.example.test.","type":"CNAME","records":[{"content":"a."}]}]}`,
		`[{"subname":"_25._tcp.mx","type":"TLSA","ttl":3600,"records":["3 1 1 00"]}]`, `[{"records":["bad"],"ttl":["bad"]},{}]`, `{"detail":"Request was throttled."}`,
		`{"success":true,"errors":[],"result":[{"id":"00","name":"example.test","type":"TLSA","ttl":1,"data":{"usage":3,"selector":1,"matching_type":1,"certificate":"00"}}],"result_info":{"total_pages":1000000}}`,
		`{"success":false,"errors":[{"code":81058,"message":"x","error_chain":[{"code":1,"message":"y"}]}],"result":null}`, "null", "[]", "{", "\x00",
		`{"error":"` + apiKey + `"}`, `{"error":"` + strings.Repeat("[", 100) + `"}`,
	} {
		f.Add(200, body)
		f.Add(422, body)
		f.Add(301, body)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 || status == 429 { // it would wait
			return
		}
		account := publish.API{URL: "https://service.test", Secret: apiKey, Client: &http.Client{Transport: answering{status, body}}}
		for name, s := range map[string]publish.Settings{"PowerDNS": {PowerDNS: &account}, "deSEC": {DeSEC: &account}, "Cloudflare": {Cloudflare: &account}} {
			p := open(t, s)
			records, ttl, err := p.List(t.Context(), mailHost("mx"))
			for _, err := range []error{err, p.Probe(t.Context(), mailHost("mx"))} {
				if err != nil && (strings.Contains(err.Error(), apiKey) || strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 2000) {
					t.Errorf("%s: %q", name, err)
				}
			}
			if ttl < 0 || err != nil && len(records) > 0 {
				t.Errorf("%s: %v, %s, %v", name, records, ttl, err)
			}
			for _, r := range records {
				if again, err := resolve.ParseTLSA(r.String()); err != nil || again.String() != r.String() {
					t.Errorf("%s: %s: %v", name, r, err)
				}
			}
		}
	})
}

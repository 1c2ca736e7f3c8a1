package publish

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mxcert/deploy/dane"
)

// FuzzHookAnswer reads what hooks say.
func FuzzHookAnswer(f *testing.F) {
	for _, text := range []string{`{"records":["3 1 1 00"],"ttl":60}`, `{"error":"x","temporary":true}`, "{}", "{} {}", "null", "[]", `{"ttl":-1}`, `{"ttl":1e400}`, "", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a hookAnswer
		if reason := a.read(text); reason == "" && (time.Duration(a.TTL)*time.Second < 0 || len(text) < 2) {
			t.Errorf("%q was taken for %+v", text, a)
		} else if reason != "" && a != (hookAnswer{}) {
			t.Errorf("%q left %+v", text, a)
		}
	})
}

// zoneAnswer is a server that answers with one text.
type zoneAnswer string

func (a zoneAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(a))), Request: r}, nil
}

func readZone(t *testing.T, text string) (set, error) {
	t.Helper()
	s, err := newPowerDNS(API{URL: "https://pdns.test", Secret: "secret", Client: &http.Client{Transport: zoneAnswer(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return s.(powerDNS).readAll(t.Context(), dane.Place{Zone: "example.test.", Name: "_25._tcp.mx.example.test."})
}

const wholeZone = `{"account": "rrsets", "masters": [{"rrsets": []}], "name": "example.test.", "rrsets": [{"comments": [], "name": "mx.example.test.", "records": [{"content": "192.0.2.1", "disabled": false}], "ttl": 60, "type": "A"},
	{"name": "_25._tcp.mx.example.test.", "records": [{"content": "3 1 1 00", "disabled": false}, {"content": "3 1 1 01", "disabled": true}], "ttl": 60, "type": "TLSA"}], "serial": 1}`

// TestCutZone: a list of a zone that is cut anywhere is an error, and never a smaller record set, which would then replace the whole one.
func TestCutZone(t *testing.T) {
	t.Parallel()
	for n := range len(wholeZone) + 1 {
		found, err := readZone(t, wholeZone[:n])
		if err == nil && (len(found.records) != 2 || !found.records[1].disabled || found.ttl != time.Minute) {
			t.Fatalf("%q: %+v", wholeZone[:n], found)
		}
	}
	for _, text := range []string{"{}", "[]", "null", `{"rrsets":null}`, `{"rrsets":{}}`, `{"x":{"rrsets":[]}}`, `["rrsets",[]]`, `{"rrsets":[1]}`, `{"x":"rrsets","y":[]}`, `{"x":["rrsets",[]]}`} {
		if found, err := readZone(t, text); err == nil {
			t.Errorf("%s was taken for %+v", text, found)
		}
	}
	if _, err := readZone(t, `{"rrsets":[`+strings.Repeat(" ", mostStream)+"]}"); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("a huge zone: %v", err)
	}
}

// FuzzZone reads lists of zones.
func FuzzZone(f *testing.F) {
	f.Add(wholeZone)
	f.Add(`{"rrsets":[{"name":"_25._tcp.mx.example.test.","type":"CNAME","records":[{"content":"a."}]}]}`)
	f.Add(`{"rrsets":[{"name":"_25._tcp.mx.example.test.","type":"TLSA","records":null}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if found, err := readZone(t, text); err == nil && found.ttl < 0 {
			t.Errorf("%+v", found)
		}
	})
}

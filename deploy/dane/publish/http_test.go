package publish_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
	"mxcert/deploy/dane/publish"
	"mxcert/deploy/dane/publish/publishtest"
)

func mailHost(host string) dane.Place {
	return dane.Place{Zone: zone, Name: "_25._tcp." + host + "." + zone, Primary: "ns1." + zone}
}

func one(n int) []resolve.TLSA { return []resolve.TLSA{publishtest.Value(n)} }

// apis are the backends that speak HTTP.
func apis(address string) map[string]publish.Settings {
	account := func(path string) *publish.API { return &publish.API{URL: address + path, Secret: apiKey} }
	return map[string]publish.Settings{"PowerDNS": {PowerDNS: account("")}, "deSEC": {DeSEC: account("/api/v1")}, "Cloudflare": {Cloudflare: account("/client/v4")}}
}

// TestSettings refuses what would be a surprise later.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, secret, says string }{
		{"", "token", ""},
		{"https://dns.example.org", "token", ""},
		{"https://dns.example.org:8443/below/", "token", ""},
		{"http://127.0.0.1:8081", "token", ""},
		{"http://[::1]:8081", "token", ""},
		{"http://192.0.2.1:8081", "token", "loopback"},
		{"http://dns.example.org", "token", "loopback"},
		{"http://localhost:8081", "token", "loopback"}, // DNS decides where that is
		{"ftp://127.0.0.1", "token", "neither https nor http"},
		{"dns.example.org", "token", "not a complete address"},
		{"https:dns.example.org", "token", "not a complete address"},
		{"https://", "token", "not a complete address"},
		{"https://x\x7f", "token", "not a complete address"},
		{"https://user:hidden@dns.example.org", "token", "more than"},
		{"https://dns.example.org/?x=hidden", "token", "more than"},
		{"https://dns.example.org", "", "the secret is empty"},
		{"https://dns.example.org", "hidden\n", "the secret is empty, or has blanks"},
		{"https://dns.example.org", "hidden\u00e4", "not ASCII"},
	} {
		for name, s := range map[string]publish.Settings{
			"powerdns": {PowerDNS: &publish.API{URL: tt.url, Secret: tt.secret}}, "desec": {DeSEC: &publish.API{URL: tt.url, Secret: tt.secret}}, "cloudflare": {Cloudflare: &publish.API{URL: tt.url, Secret: tt.secret}},
		} {
			p, err := publish.New(s)
			if tt.says == "" {
				if err != nil || p.String() == "" {
					t.Errorf("%s %q: %v", name, tt.url, err)
				}
				continue
			}
			e, ok := errors.AsType[*publish.Error](err)
			if !ok || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Error(), name) || e.Kind() != "dns-config" || e.Hint() == "" || e.Temporary() || strings.Contains(e.Error(), "hidden") {
				t.Errorf("%s %q: %v", name, tt.url, err)
			}
		}
	}
	two := apis("https://dns.example.org")["deSEC"]
	two.Hook = &publish.Hook{Directory: "/x"}
	for _, s := range []publish.Settings{{}, two} {
		if _, err := publish.New(s); err == nil || !strings.Contains(err.Error(), "services are chosen") {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if _, err := publish.New(publish.Settings{RFC2136: map[string]string{}}); err == nil {
		t.Error("no TSIG key is needed")
	}
}

// TestRedirections are not followed: the secret would go along.
func TestRedirections(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/"+apiKey+"?"+apiKey, status))
		t.Cleanup(server.Close)
		for name, s := range apis(server.URL) {
			p := open(t, s)
			_, _, listed := p.List(t.Context(), mailHost("redirected"))
			for op, err := range map[string]error{"list": listed, "add": p.Add(t.Context(), mailHost("redirected"), one(1), time.Hour)} {
				if err == nil || !strings.Contains(err.Error(), "sends mxcert on to") || strings.Contains(err.Error(), apiKey) {
					t.Errorf("%s %d: %s: %v", name, status, op, err)
				}
			}
		}
	}
	if reached.Load() != 0 {
		t.Error("a redirection was followed")
	}
}

// TestStatuses: what each answer means, and a service that repeats the secret.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status    int
		header    [2]string
		kind      string
		temporary bool
	}{
		{400, [2]string{}, "dns-publish", false},
		{401, [2]string{}, "dns-auth", false},
		{403, [2]string{}, "dns-auth", false},
		{404, [2]string{}, "dns-zone", false},
		{408, [2]string{}, "dns-publish", true},
		{409, [2]string{}, "dns-conflict", true},
		{412, [2]string{}, "dns-conflict", true},
		{422, [2]string{}, "dns-publish", false},
		{429, [2]string{"Retry-After", "3600"}, "dns-limit", true},
		{429, [2]string{"Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}, "dns-limit", true},
		{429, [2]string{"Retry-After", "99999999999999999999"}, "dns-limit", true},
		{429, [2]string{"Retry-After", "-1"}, "dns-limit", true},
		{429, [2]string{}, "dns-limit", true},
		{500, [2]string{}, "dns-publish", true},
		{502, [2]string{}, "dns-publish", true},
		{503, [2]string{"Retry-After", "1"}, "dns-publish", true},
	} {
		for _, body := range []string{
			"", "the key " + apiKey + " is wrong \x1b[31m", `{"error":"` + apiKey + ` is wrong"}`, `{"detail":"` + apiKey + ` is wrong"}`, `{"success":false,"errors":[{"code":1,"message":"` + apiKey + ` is wrong"}]}`,
			strings.Repeat("x", 280) + apiKey, "null", "[]",
		} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.header[0] != "" {
					w.Header().Set(tt.header[0], tt.header[1])
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, body)
			}))
			for name, s := range apis(server.URL) {
				_, _, err := open(t, s).List(t.Context(), mailHost("status"))
				e, ok := errors.AsType[*publish.Error](err)
				switch {
				case !ok || e.Kind() != tt.kind || e.Temporary() != tt.temporary || e.Hint() == "" || !strings.Contains(e.Error(), fmt.Sprint(tt.status)):
					t.Errorf("%s %d %q: %v (%+v)", name, tt.status, body, err, e)
				case strings.Contains(e.Error(), apiKey[:8]) || strings.Contains(e.Error(), "\x1b") || len(e.Error()) > 700:
					t.Errorf("%s %d: %v", name, tt.status, e)
				case strings.Contains(body, " is wrong") && !strings.Contains(e.Error(), "[secret] is wrong"):
					t.Errorf("%s %d does not say what the service says: %v", name, tt.status, e)
				}
			}
			server.Close()
		}
	}
}

// TestShortLimit waits as long as the service says, if that is short.
func TestShortLimit(t *testing.T) {
	t.Parallel()
	server := publishtest.StartDeSEC(t, "example.test", apiKey)
	limited := 0
	server.Before(func(w http.ResponseWriter, _ *http.Request) bool {
		if limited++; limited%2 == 0 {
			return false
		}
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"detail":"Request was throttled. Expected available in 1 second."}`)
		return true
	})
	p := open(t, apis(server.URL)["deSEC"])
	if err := p.Add(t.Context(), mailHost("limit"), one(1), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := server.Held(t, mailHost("limit").Name); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestServiceThatDropsRecords says yes and holds nothing, as services do that know no TLSA records.
func TestServiceThatDropsRecords(t *testing.T) {
	t.Parallel()
	desec, cloudflare := publishtest.StartDeSEC(t, "example.test", apiKey), publishtest.StartCloudflare(t, "example.test", apiKey)
	drop := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"success":true,"errors":[],"result":{}}`)
		return true
	}
	desec.Before(drop)
	cloudflare.Before(drop)
	for name, p := range map[string]dane.Publisher{"deSEC": open(t, apis(desec.URL)["deSEC"]), "Cloudflare": open(t, apis(cloudflare.URL)["Cloudflare"])} {
		err := p.Add(t.Context(), mailHost("dropped"), one(1), time.Hour)
		if e, ok := errors.AsType[*publish.Error](err); !ok || !strings.Contains(e.Error(), "it does not hold 3 1 1 ") || e.Kind() != "dns-publish" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOverwritten: another program has read the record set before our change, and replaces it right after. Our record comes back.
func TestOverwritten(t *testing.T) {
	t.Parallel()
	server, at := publishtest.StartDeSEC(t, "example.test", apiKey), mailHost("overwritten")
	foreign := "2 1 1 " + strings.Repeat("0a", 32)
	server.Put(t, at.Name, 3600, "TLSA", foreign)
	stale := fmt.Sprintf(`[{"subname":"_25._tcp.overwritten","type":"TLSA","ttl":3600,"records":[%q]}]`, foreign)
	reads, writes := 0, 0 // the reads since the last write
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		switch r.Method {
		case http.MethodPatch:
			reads, writes = 0, writes+1
		case http.MethodGet:
			reads++
		}
		if reads == 2 && writes == 1 { // the first one has found our record
			other := r.Clone(r.Context())
			other.Method, other.URL.RawQuery, other.Body = http.MethodPatch, "", io.NopCloser(strings.NewReader(stale))
			other.Header.Set("Content-Type", "application/json")
			response, err := http.DefaultTransport.RoundTrip(other)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%+v, %v", response, err)
			}
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	p := open(t, publish.Settings{DeSEC: &publish.API{URL: server.URL + "/api/v1", Secret: apiKey, Client: &http.Client{Transport: transport}}})
	if err := p.Add(t.Context(), at, one(1), time.Hour); err != nil {
		t.Error(err)
	}
	if got := server.Held(t, at.Name); len(got) != 2 || writes != 2 {
		t.Errorf("%q after %d writes", got, writes)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPowerDNSKeeps what the API holds beside our records: disabled ones, and comments. A copy of a zone is not for writing.
func TestPowerDNSKeeps(t *testing.T) {
	t.Parallel()
	address, api := startPowerDNS(t)
	at := mailHost("kept")
	call := func(method, path, body string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+api+"/api/v1/servers/localhost/zones"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", apiKey)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s %v", method, path, response.StatusCode, text, err)
		}
		return string(text)
	}
	off, on := "3 1 1 "+strings.Repeat("0f", 32), "2 1 1 "+strings.Repeat("0a", 32)
	call(http.MethodPatch, "/"+zone, fmt.Sprintf(`{"rrsets":[{"name":%q,"type":"TLSA","ttl":300,"changetype":"REPLACE","comments":[{"content":"by hand","account":"","modified_at":1}],
		"records":[{"content":%q,"disabled":true},{"content":%q,"disabled":false}]}]}`, at.Name, off, on))
	p := open(t, publish.Settings{PowerDNS: &publish.API{URL: "http://" + api + "/api/v1/", Secret: apiKey}})
	if err := p.Add(t.Context(), at, one(1), time.Hour); err != nil {
		t.Fatal(err)
	}
	if records, ttl, err := p.List(t.Context(), at); err != nil || len(records) != 2 || ttl != 5*time.Minute {
		t.Errorf("%v, %s, %v", records, ttl, err)
	}
	if got := heldInDNS(address)(t, at.Name); len(got) != 2 {
		t.Errorf("DNS has %q", got)
	}
	if err := p.Remove(t.Context(), at, one(1)); err != nil {
		t.Fatal(err)
	}
	text := call(http.MethodGet, "/"+zone, "")
	for _, want := range []string{fmt.Sprintf(`{"content": %q, "disabled": true}`, off), fmt.Sprintf(`{"content": %q, "disabled": false}`, on), `"content": "by hand"`} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%s is lost: %s", want, text)
		}
	}
	disabled, _ := resolve.ParseTLSA(off)
	if err := p.Add(t.Context(), at, []resolve.TLSA{disabled}, time.Hour); err != nil {
		t.Errorf("a disabled record: %v", err)
	}
	if got := heldInDNS(address)(t, at.Name); len(got) != 2 {
		t.Errorf("DNS has %q after a disabled record was added", got)
	}
	call(http.MethodPost, "", `{"name":"copy.test.","kind":"Slave","masters":["192.0.2.1"]}`)
	err := p.Probe(t.Context(), dane.Place{Zone: "copy.test.", Name: "_25._tcp.mx.copy.test."})
	if e, ok := errors.AsType[*publish.Error](err); !ok || e.Kind() != "dns-zone" || !strings.Contains(e.Error(), "is a copy here") {
		t.Errorf("a copy of a zone: %v", err)
	}
}

// TestDeSECRules: the domain's own minimum is asked for, and a record set that somebody else has just made is a conflict that is solved.
func TestDeSECRules(t *testing.T) {
	t.Parallel()
	server := publishtest.StartDeSEC(t, "example.test", apiKey)
	server.MinimumTTL = 60
	p, at := open(t, apis(server.URL)["deSEC"]), mailHost("rules")
	foreign := "2 1 1 " + strings.Repeat("0a", 32)
	conflicts := 0
	server.Before(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || conflicts > 0 {
			return false
		}
		conflicts++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"non_field_errors":["Another RRset with the same subdomain and type exists for this domain. (Try modifying it.)"]}`)
		return true
	})
	if err := p.Add(t.Context(), at, one(1), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, ttl, err := p.List(t.Context(), at); err != nil || ttl != time.Minute {
		t.Errorf("TTL %s, %v", ttl, err)
	}
	server.Put(t, at.Name, 60, "TLSA", foreign)
	if err := p.Remove(t.Context(), at, one(1)); err != nil {
		t.Fatal(err)
	}
	if got := server.Held(t, at.Name); len(got) != 1 || got[0] != "TLSA "+foreign {
		t.Errorf("%q", got)
	}
	for _, request := range server.Requests() {
		if strings.HasPrefix(request, "DELETE") || strings.HasPrefix(request, "PUT") {
			t.Errorf("%s can lose what others have written", request)
		}
	}
}

// TestCloudflareRules: nothing is published in a zone that is not signed, lists have pages, and what is there already is no error.
func TestCloudflareRules(t *testing.T) {
	t.Parallel()
	server := publishtest.StartCloudflare(t, "example.test", apiKey)
	server.PerPage = 2
	p, at := open(t, apis(server.URL)["Cloudflare"]), mailHost("rules")
	for n := range 5 {
		if err := p.Add(t.Context(), at, one(n), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if records, _, err := p.List(t.Context(), at); err != nil || len(records) != 5 {
		t.Errorf("%v, %v", records, err)
	}
	for _, status := range []string{"disabled", "pending", "pending-disabled", "error", ""} {
		server.DNSSEC = status
		err := p.Add(t.Context(), at, one(9), time.Hour)
		probed := p.Probe(t.Context(), at)
		for op, err := range map[string]error{"add": err, "probe": probed} {
			if e, ok := errors.AsType[*publish.Error](err); !ok || e.Kind() != "dns-unsigned" || e.Temporary() != (status == "pending") || !strings.Contains(e.Hint(), "DS record") {
				t.Errorf("DNSSEC %q: %s: %v", status, op, err)
			}
		}
	}
	if err := p.Remove(t.Context(), at, append(one(0), one(1)...)); err != nil {
		t.Errorf("own records stay in a zone that is not signed any more: %v", err)
	}
	if got := server.Held(t, at.Name); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// TestUnknownCertificate: the secret goes to no server that the system's roots do not vouch for.
func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	for name, s := range apis(server.URL) {
		_, _, err := open(t, s).List(t.Context(), mailHost("unknown"))
		if e, ok := errors.AsType[*publish.Error](err); !ok || !strings.Contains(e.Error(), "certificate") || e.Kind() != "dns-unreachable" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("the server got a request")
	}
}

package publishtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"mxcert/deploy/dane/publish/publishtest"
)

const token = "a-token"

func ask(t *testing.T, method, address, authorization, contentType, body string) (status int, said string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

var good, other = "3 1 1 " + strings.Repeat("0a", 32), "3 1 1 " + strings.Repeat("0b", 32)

// TestDeSECRefuses what the documentation refuses, and changes nothing then.
func TestDeSECRefuses(t *testing.T) {
	t.Parallel()
	server := publishtest.StartDeSEC(t, "example.test", token)
	const name = "_25._tcp.mx.example.test."
	server.Put(t, name, 3600, "TLSA", good)
	server.Put(t, "_25._tcp.alias.example.test.", 3600, "CNAME", "x.example.test.")
	set := func(subname, ttl, records string) string {
		return fmt.Sprintf(`{"subname":%q,"type":"TLSA","ttl":%s,"records":[%s]}`, subname, ttl, records)
	}
	quoted, fresh := fmt.Sprintf("%q", good), "_25._tcp.new"
	for _, tt := range []struct {
		what, method, path, auth, kind, body string
		status                               int
		says                                 string
	}{
		{"no token", "GET", "rrsets/", "", "", "", 401, "not provided"},
		{"a wrong token", "GET", "rrsets/", "Token x", "", "", 401, "Invalid token."},
		{"a bearer token", "GET", "rrsets/", "Bearer " + token, "", "", 401, "Invalid token."},
		{"no final slash", "GET", "rrsets", "", "", "", 404, "Not found."},
		{"another method", "DELETE", "rrsets/", "", "", "", 405, "not allowed"},
		{"no JSON type", "POST", "rrsets/", "", "text/plain", set(fresh, "3600", quoted), 400, "content type"},
		{"an unknown member", "POST", "rrsets/", "", "", `{"name":"x"}`, 400, "unknown field"},
		{"an object for several", "PATCH", "rrsets/", "", "", set(fresh, "3600", quoted), 400, "list of items"},
		{"a list for one", "POST", "rrsets/", "", "", "[" + set(fresh, "3600", quoted) + "]", 400, "parse error"},
		{"it exists", "POST", "rrsets/", "", "", set("_25._tcp.mx", "3600", quoted), 400, "Another RRset"},
		{"beside a CNAME", "POST", "rrsets/", "", "", set("_25._tcp.alias", "3600", quoted), 400, "alongside CNAME"},
		{"a short TTL", "POST", "rrsets/", "", "", set(fresh, "60", quoted), 400, "greater than or equal to 3600"},
		{"a long TTL", "PATCH", "rrsets/", "", "", "[" + set("_25._tcp.mx", "604800", quoted) + "]", 400, "less than or equal"},
		{"a TTL in quotes", "POST", "rrsets/", "", "", set(fresh, `"3600"`, quoted), 400, "parse error"},
		{"a bad record", "POST", "rrsets/", "", "", set(fresh, "3600", `"3 1 1 0a"`), 400, "wrong length"},
		{"a record twice", "POST", "rrsets/", "", "", set(fresh, "3600", quoted+","+strings.ToUpper(quoted)), 400, "Duplicate"},
		{"no records by POST", "POST", "rrsets/", "", "", set(fresh, "3600", ""), 400, "must not be empty"},
		{"upper case", "POST", "rrsets/", "", "", set("_25._tcp.MX", "3600", quoted), 400, "lowercase"},
		{"one of two is bad", "PATCH", "rrsets/", "", "", "[" + set("_25._tcp.mx", "3600", fmt.Sprintf("%q", other)) + "," + set(fresh, "1", quoted) + "]", 400, "[{},"},
	} {
		auth, kind := "Token "+token, "application/json"
		if tt.auth != "" || tt.what == "no token" {
			auth = tt.auth
		}
		if tt.kind != "" {
			kind = tt.kind
		}
		status, said := ask(t, tt.method, server.URL+"/api/v1/domains/example.test/"+tt.path, auth, kind, tt.body)
		if status != tt.status || !strings.Contains(said, tt.says) {
			t.Errorf("%s: %d %s", tt.what, status, said)
		}
	}
	if got := append(server.Held(t, name), server.Held(t, fresh+".example.test.")...); len(got) != 1 || got[0] != "TLSA "+good {
		t.Errorf("%q", got)
	}
}

// TestCloudflareRefuses what the documentation refuses, and changes nothing then.
func TestCloudflareRefuses(t *testing.T) {
	t.Parallel()
	server := publishtest.StartCloudflare(t, "example.test", token)
	const name, zone = "_25._tcp.mx.example.test", "/023e105f4ecef8ad9ca31a8372d0c353"
	server.Put(t, name, 3600, "TLSA", good)
	server.Put(t, "_25._tcp.alias.example.test", 3600, "CNAME", "x.example.test")
	post := func(name, ttl, digits string) string {
		return fmt.Sprintf(`{"name":%q,"type":"TLSA","ttl":%s,"data":{"usage":3,"selector":1,"matching_type":1,"certificate":%q}}`, name, ttl, digits)
	}
	digits := strings.Repeat("0b", 32)
	for _, tt := range []struct {
		what, method, path, auth, body string
		status                         int
		says                           string
	}{
		{"no token", "GET", "", "none", "", 400, "6003"},
		{"a wrong token", "GET", "", "Bearer x", "", 403, "9109"},
		{"another zone", "GET", "/00/dnssec", "", "", 404, "7003"},
		{"no page", "GET", zone + "/dns_records", "", "", 400, "1004"},
		{"an unknown member", "POST", zone + "/dns_records/batch", "", `{"x":1}`, 400, "9207"},
		{"content", "POST", zone + "/dns_records/batch", "", fmt.Sprintf(`{"posts":[{"name":%q,"type":"TLSA","ttl":60,"content":%q}]}`, name, other), 400, "9207"},
		{"no data", "POST", zone + "/dns_records/batch", "", fmt.Sprintf(`{"posts":[{"name":%q,"type":"TLSA","ttl":60}]}`, name), 400, "9101"},
		{"a short TTL", "POST", zone + "/dns_records/batch", "", `{"posts":[` + post(name, "30", digits) + `]}`, 400, "9021"},
		{"it exists", "POST", zone + "/dns_records/batch", "", `{"posts":[` + post(name, "60", strings.Repeat("0A", 32)) + `]}`, 400, "81058"},
		{"beside a CNAME", "POST", zone + "/dns_records/batch", "", `{"posts":[` + post("_25._tcp.alias.example.test", "60", digits) + `]}`, 400, "81054"},
		{"bad digits", "POST", zone + "/dns_records/batch", "", `{"posts":[` + post(name, "60", "0b") + `]}`, 400, "9134"},
		{"outside the zone", "POST", zone + "/dns_records/batch", "", `{"posts":[` + post("mx.example.net", "60", digits) + `]}`, 400, "9000"},
		{"no such number", "POST", zone + "/dns_records/batch", "", `{"deletes":[{"id":"00"}]}`, 404, "81044"},
		{"one of two is bad", "POST", zone + "/dns_records/batch", "", `{"deletes":[{"id":"00000000000000000000000000000001"}],"posts":[` + post(name, "30", digits) + `]}`, 400, "9021"},
	} {
		auth := "Bearer " + token
		if tt.auth != "" {
			auth = tt.auth
		}
		status, said := ask(t, tt.method, server.URL+"/client/v4/zones"+tt.path, auth, "application/json", tt.body)
		if status != tt.status || !strings.Contains(said, `"code":`+tt.says) || !strings.Contains(said, `"success":false`) {
			t.Errorf("%s: %d %s", tt.what, status, said)
		}
	}
	if got := server.Held(t, name+"."); len(got) != 1 || got[0] != "TLSA "+good {
		t.Errorf("%q", got)
	}
}

package wanted_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
	"mxcert/deploy/dane/publish/publishtest"
)

// withDANE is the good configuration with settings for the first certificate.
func withDANE(t *testing.T, settings string) string {
	t.Helper()
	return edited(t, "keys: [ec256, rsa2048]", "keys: [ec256, rsa2048]\n    dane: "+settings)
}

// Not set is check, and says so; set is what is set.
func TestDANE(t *testing.T) {
	t.Parallel()
	defaults := dane.Settings{Mode: dane.Check, Unset: true, Ports: []int{25}, Hold: 24 * time.Hour, KeyLifetime: 365 * 24 * time.Hour, TTL: time.Hour}
	if got := load(t, good).Certificates[0].DANE(); !reflect.DeepEqual(got, defaults) {
		t.Errorf("not set: %+v", got)
	}
	for mode, want := range map[string]dane.Mode{"off": dane.Off, `"off"`: dane.Off, "check": dane.Check, "gate": dane.ByHand, "publish": dane.Publish} {
		text := withDANE(t, "{mode: "+mode+`, ports: [25, 465], hold: 0, key_lifetime: 0, ignore_servers: ["NS9.example.net."], ttl: 2s}`)
		s := dane.Settings{Mode: want, Ports: []int{25, 465}, Ignore: []string{"ns9.example.net"}, TTL: 2 * time.Second}
		if got := load(t, text).Certificates[0].DANE(); !reflect.DeepEqual(got, s) {
			t.Errorf("%s: %+v", mode, got)
		}
	}
}

// Every host name has an owner at every port: the required ones first, found ones last, wildcards none.
func TestOwners(t *testing.T) {
	t.Parallel()
	text := edited(t, "[mx.example.org, host7.example.org]", `["*.w.example.org", mx.example.org]`+"\n    optional: [mx.example.net]\n    mail_domains: [example.com]\n    dane: {ports: [25, 465]}")
	c, _ := load(t, text).Certificates[0].WithFound([]wanted.Found{{Name: "found.example.org", Reason: "MX of example.com"}})
	var got []string
	for _, o := range c.Owners() {
		got = append(got, o.Name())
	}
	want := "_25._tcp.mx.example.org _465._tcp.mx.example.org _25._tcp.mx.example.net _465._tcp.mx.example.net _25._tcp.found.example.org _465._tcp.found.example.org"
	if strings.Join(got, " ") != want {
		t.Errorf("owners %s, want %s", got, want)
	}
	if got := load(t, good).Certificates[1].Owners(); len(got) != 0 {
		t.Errorf("a certificate of wildcards alone has the owners %v", got)
	}
}

// The service is the one that is named, else the dns section's, if it takes dynamic updates. Its secret is read with the others.
func TestPublisher(t *testing.T) {
	t.Setenv("MXCERT_TEST_TOKEN", "the-token")
	for settings, says := range map[string]string{
		`{}`:              "dynamic updates at 192.0.2.53:53",
		`{mode: publish}`: "dynamic updates at 192.0.2.53:53",
		`{publisher: {powerdns: {url: "https://ns1.example.org:8081", key: "env:MXCERT_TEST_MISSING"}}}`: "dane.publisher.powerdns.key: secret env:MXCERT_TEST_MISSING",
		`{publisher: {desec: {token: "env:MXCERT_TEST_MISSING"}}}`:                                       "dane.publisher.desec.token: secret env:MXCERT_TEST_MISSING",
		`{publisher: {cloudflare: {token: "file:/nonexistent/token"}}}`:                                  "/nonexistent/token",
	} {
		got := said(load(t, withDANE(t, settings)).Certificates[0].Publisher())
		if !strings.Contains(got, says) {
			t.Errorf("%s: %s, want %s", settings, got, says)
		}
	}
	none := edited(t, "provider: rfc2136, env: {", "provider: exec, env: {EXEC_PATH: /bin/true, ")
	none = strings.ReplaceAll(strings.ReplaceAll(none, `DNSUPDATE_NAMESERVER: "192.0.2.53:53", `, ""), `DNSUPDATE_TSIG_SECRET: "cred:tsig"`, `EXEC_MODE: ""`)
	if p, err := load(t, none).Certificates[0].Publisher(); p != nil || err != nil {
		t.Errorf("without a service: %v, %v", p, err)
	}
}

func said(p dane.Publisher, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprint(p)
}

// Each record is written by the account of its zone, the longest match; one that takes no dynamic updates is an error, which names it.
func TestPublisherOfZones(t *testing.T) {
	t.Parallel()
	text := edited(t, `cred:tsig"}}`, `file:/nonexistent/first"}, zones: {
  example.net: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "192.0.2.54:53", DNSUPDATE_TSIG_SECRET: "file:/nonexistent/second"}},
  sub.example.net: {provider: exec, env: {EXEC_PATH: /bin/true}}}}`)
	p, err := load(t, text).Certificates[0].Publisher()
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	if got := p.String(); got != "dynamic updates at 192.0.2.53:53, 192.0.2.54:53" {
		t.Error(got)
	}
	for name, says := range map[string]string{
		"_25._tcp.mx.example.org.":         "dns.env.DNSUPDATE_TSIG_SECRET: secret file:/nonexistent/first",
		"_25._tcp.mx.Example.net.":         "dns.zones[example.net].env.DNSUPDATE_TSIG_SECRET: secret file:/nonexistent/second",
		"_25._tcp.mx.sub.example.net.":     "_25._tcp.mx.sub.example.net belongs to the account at dns.zones[sub.example.net], whose provider exec writes no TLSA records",
		"_25._tcp.mx.otherexample.net.":    "/nonexistent/first",
		"_25._tcp.mx.example.net.evil.org": "/nonexistent/first",
	} {
		at := dane.Place{Zone: "x.", Name: name}
		_, _, listed := p.List(t.Context(), at)
		for what, err := range map[string]error{"list": listed, "add": p.Add(t.Context(), at, nil, time.Hour), "remove": p.Remove(t.Context(), at, nil), "probe": p.Probe(t.Context(), at)} {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s %s: %v, want %s", what, name, err, says)
			}
		}
	}
	alone := strings.Replace(text, `dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_SECRET: "file:/nonexistent/first"}, `, "dns: {", 1)
	p, err = load(t, alone).Certificates[0].Publisher()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(t.Context(), dane.Place{Name: "_25._tcp.mx.example.org."}); err == nil || !strings.Contains(err.Error(), "no account of the dns section covers _25._tcp.mx.example.org") {
		t.Errorf("a name that no account covers: %v", err)
	}
}

// A change of the settings, also of a literal token, is an edit that may have fixed what failed.
func TestFingerprintOfDANE(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, settings := range []string{`{}`, `{mode: check}`, `{ports: [465]}`, `{hold: 1h}`, `{key_lifetime: 30d}`, `{ttl: 30m}`, `{ignore_servers: [ns9.example.net]}`, `{publisher: hook}`,
		`{publisher: {desec: {token: one}}}`, `{publisher: {desec: {token: two}}}`, `{publisher: {powerdns: {url: "https://a.example", key: one}}}`, `{publisher: {powerdns: {url: "https://b.example", key: one}}}`} {
		fingerprint := load(t, withDANE(t, settings)).Certificates[0].Fingerprint()
		if other, twice := seen[fingerprint]; twice {
			t.Errorf("%s has the fingerprint of %s", settings, other)
		}
		seen[fingerprint] = settings
	}
}

// The secret of a publisher is kept with the others before the rights are dropped, and missed with the others.
func TestSecretOfPublisher(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	text := withDANE(t, `{mode: publish, publisher: {desec: {token: "file:`+file+`"}}}`)
	missing := wanted.UnreadableSecrets(config(t, text))
	if len(missing) == 0 || !strings.Contains(missing[len(missing)-1].Message, "certificates[0].dane.publisher.desec.token: secret file:"+file) {
		t.Errorf("missing: %+v", missing)
	}
	if err := os.WriteFile(file, []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := load(t, text)
	host.KeepSecrets()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := said(host.Certificates[0].Publisher()); strings.Contains(got, "secret file:") || strings.Contains(got, "the-token") {
		t.Errorf("kept: %s", got)
	}
}

// The settings of mxcert-dane(7) for hosted DNS publish, as they are written, but for the address of the service.
func TestPageForHostedDNS(t *testing.T) {
	page, err := os.ReadFile("../../../../packaging/man/mxcert-dane.7.md")
	if err != nil {
		t.Fatal(err)
	}
	credentials := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	if err := os.WriteFile(filepath.Join(credentials, "dane-token"), []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for service, url := range map[string]string{
		"desec":      "http://" + publishtest.StartDeSEC(t, "example.org", "the-token").Address() + "/api/v1",
		"cloudflare": "http://" + publishtest.StartCloudflare(t, "example.org", "the-token").Address() + "/client/v4",
	} {
		settings := regexp.MustCompile("(?s)```yaml " + service + "\n(.*?)```").FindStringSubmatch(string(page))
		if settings == nil {
			t.Fatalf("the page has no settings for %s", service)
		}
		line := strings.Replace(settings[1], `token"}`, `token", url: "`+url+`"}`, 1)
		c := load(t, edited(t, "    keys: [ec256, rsa2048]\n", line+"    keys: [ec256, rsa2048]\n")).Certificates[0]
		if c.DANE().Mode != dane.Publish {
			t.Errorf("%s: mode %s", service, c.DANE().Mode)
		}
		p, err := c.Publisher()
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		at, record := dane.Place{Zone: "example.org.", Name: "_25._tcp.mx.example.org."}, publishtest.Value(1)
		if err := errors.Join(p.Probe(t.Context(), at), p.Add(t.Context(), at, []resolve.TLSA{record}, time.Hour)); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		list, _, err := p.List(t.Context(), at)
		if err != nil || len(list) != 1 || list[0].String() != record.String() {
			t.Errorf("%s lists %v, %v", service, list, err)
		}
	}
}

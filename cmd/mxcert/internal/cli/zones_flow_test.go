package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// zoneAPI is the API of a DNS provider, as lego's httpreq uses it, for one user. It notes which records it was asked for.
type zoneAPI struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
}

func (h *host) zoneAPI(password string) *zoneAPI {
	api := &zoneAPI{}
	api.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var change struct{ FQDN, Value string }
		_, given, _ := r.BasicAuth()
		err := json.NewDecoder(r.Body).Decode(&change)
		api.mu.Lock()
		api.calls = append(api.calls, r.URL.Path+" "+change.FQDN)
		api.mu.Unlock()
		switch {
		case given != password:
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		case err != nil:
		case r.URL.Path == "/present":
			err = h.World.Add(change.FQDN + ` 5 IN TXT "` + change.Value + `"`)
		case r.URL.Path == "/cleanup":
			err = h.World.Remove(change.FQDN)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	h.t.Cleanup(api.Close)
	return api
}

// zonesHost has a TSIG key for example.org, and example.com and a zone below it at two accounts of one provider.
func zonesHost(t *testing.T) (h *host, com, dev *zoneAPI) {
	t.Helper()
	h = newHost(t, lab.Options{}, lab.ConfigOptions{Domains: []string{"mx.example.org", "alias.example.org", "mail.example.com", "mx.dev.example.com"}})
	secret := base64.StdEncoding.EncodeToString([]byte("the key of example.org alone"))
	h.check(h.World.AddKey("org.", "hmac-sha256.", secret, "example.org."))
	h.check(h.World.Add("_acme-challenge.alias.example.org. 60 IN CNAME alias.acme.example.com."))
	com, dev = h.zoneAPI("of com"), h.zoneAPI("of dev")
	h.edit("dns:\n", fmt.Sprintf(`dns:
  zones:
    Example.ORG.:
      provider: rfc2136
      env: {DNSUPDATE_NAMESERVER: %q, DNSUPDATE_TSIG_KEY: org., DNSUPDATE_TSIG_SECRET: "file:%s"}
    example.com: {provider: httpreq, env: {HTTPREQ_ENDPOINT: %q, HTTPREQ_USERNAME: mxcert, HTTPREQ_PASSWORD: "file:%s"}}
    dev.example.com: {provider: httpreq, env: {HTTPREQ_ENDPOINT: %q, HTTPREQ_USERNAME: mxcert, HTTPREQ_PASSWORD: "file:%s"}}
`, h.Primary.Address(), h.file("org.secret", secret, 0o600), com.URL, h.file("com.secret", "of com\n", 0o600), dev.URL, h.file("dev.secret", "of dev\n", 0o600)))
	return h, com, dev
}

// withoutProvider removes dns.provider, which proves all names outside of the zones.
func (h *host) withoutProvider() {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	h.check(err)
	before, rest, _ := strings.Cut(string(text), "  provider: rfc2136\n  env:\n")
	_, after, found := strings.Cut(rest, "  resolvers:")
	if !found {
		h.t.Fatalf("the configuration has another dns section now:\n%s", text)
	}
	h.write(before + "  resolvers:" + after)
}

// One certificate over three zones: each name is proven by the account of the zone in which its challenge lies, and every command knows.
func TestZonesFlow(t *testing.T) {
	t.Parallel()
	h, com, dev := zonesHost(t)
	h.withoutProvider()
	if got := h.run("check"); got.code != report.CodeOK {
		t.Fatalf("check: %+v", got)
	}
	var doctor struct {
		Checks []struct{ ID, Severity, Subject, Message string }
	}
	h.check(json.Unmarshal([]byte(h.run("doctor", "--json").stdout), &doctor))
	var found []string
	for _, c := range doctor.Checks {
		if c.ID == "dns-provider" {
			found = append(found, c.Severity+" "+c.Message)
		}
	}
	if want := []string{
		"ok rfc2136 (dns.zones: example.org) accepts the key, and lets it change the records of every name; it proves mx.example.org",
		"ok httpreq (dns.zones: example.com) is set up; the first order will show whether it can create records; it proves alias.example.org, mail.example.com",
		"ok httpreq (dns.zones: dev.example.com) is set up; the first order will show whether it can create records; it proves mx.dev.example.com",
	}; !slices.Equal(found, want) {
		t.Errorf("doctor: %q", found)
	}
	plan := h.report(report.CodeOK, "renew", "--dry-run").Certificates[0]
	if want := "[{example.org rfc2136 [mx.example.org]} {example.com httpreq [alias.example.org mail.example.com]} {dev.example.com httpreq [mx.dev.example.com]}]"; fmt.Sprint(plan.DryRun.Proofs) != want {
		t.Errorf("dry run: %v, want %s", plan.DryRun.Proofs, want)
	}
	if len(plan.Plan) != 4 || plan.Plan[2] != "prove alias.example.org, mail.example.com by httpreq (dns.zones: example.com)" {
		t.Errorf("plan: %q", plan.Plan)
	}
	if len(com.calls)+len(dev.calls)+len(h.World.Challenges()) != 0 {
		t.Errorf("doctor or a dry run has changed something: %q, %q", com.calls, dev.calls)
	}
	first := h.report(report.CodeOK, "renew").Certificates[0]
	if first.Stage != report.Served || len(first.Names) != 4 {
		t.Errorf("%+v", first)
	}
	slices.Sort(com.calls)
	if want := []string{"/cleanup _acme-challenge.mail.example.com.", "/cleanup alias.acme.example.com.", "/present _acme-challenge.mail.example.com.", "/present alias.acme.example.com."}; !slices.Equal(com.calls, want) {
		t.Errorf("the account of example.com: %q", com.calls)
	}
	if want := []string{"/present _acme-challenge.mx.dev.example.com.", "/cleanup _acme-challenge.mx.dev.example.com."}; !slices.Equal(dev.calls, want) {
		t.Errorf("the account of dev.example.com: %q", dev.calls)
	}
	if left := h.World.Challenges(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	h.edit("DNSUPDATE_TSIG_KEY: org.", "DNSUPDATE_TTL: 30, DNSUPDATE_TSIG_KEY: org.")
	if c := h.report(report.CodeOK, "renew").Certificates[0]; c.Changed || c.Keys[0].Serial != first.Keys[0].Serial || h.placed() != 1 {
		t.Errorf("a change of an account orders anew: %+v", c)
	}
}

// If one account fails, the error says which, nothing is asked of the CA in vain, and the records of the others are gone.
func TestZonesFlowFails(t *testing.T) {
	t.Parallel()
	h, _, _ := zonesHost(t)
	h.file("dev.secret", "another", 0o600)
	got := h.run("renew", "--json")
	for _, want := range []string{"DNS provider httpreq (dns.zones: dev.example.com): cannot create TXT record _acme-challenge.mx.dev.example.com", "who are you?"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%d\n%s\nwant %q", got.code, got.stdout, want)
		}
	}
	if got.code != report.CodeTemporary || len(h.World.Challenges()) != 0 || strings.Contains(got.stdout+got.stderr, "another") {
		t.Errorf("%d, left %v\n%s", got.code, h.World.Challenges(), got.stderr)
	}
	h.file("dev.secret", "of dev", 0o600)
	if h.report(report.CodeOK, "renew", "--now"); h.placed() != 1 {
		t.Errorf("%d orders: the first one is lost", h.placed())
	}
}

// A name without an account is found: check warns where a CNAME may still help, dry run, doctor and renew look, and no order is placed.
func TestZonesFlowWithoutAccount(t *testing.T) {
	t.Parallel()
	h, _, _ := zonesHost(t)
	h.withoutProvider()
	h.edit("Example.ORG.:", "example.net:")
	if got := h.run("check"); got.code != report.CodeOK || !strings.Contains(got.stderr, "mx.example.org is in none of dns.zones") || !strings.Contains(got.stderr, "alias.example.org is in none") || strings.Contains(got.stderr, "mail.example.com") {
		t.Errorf("check: %+v", got)
	}
	const says = "no DNS account for _acme-challenge.mx.example.org (zone example.org): in none of dns.zones, and there is no dns.provider"
	for _, args := range [][]string{{"renew", "--dry-run"}, {"doctor"}, {"renew"}} {
		got := h.run(append(args, "--json")...)
		if got.code == report.CodeOK || !strings.Contains(got.stdout, says) || strings.Contains(got.stdout, "_acme-challenge.alias.example.org (") {
			t.Errorf("%v: %d\n%s\n%s", args, got.code, got.stdout, got.stderr)
		}
	}
	if h.placed() != 0 {
		t.Errorf("%d orders", h.placed())
	}
}

// What is shown of zones has no secret in it, and loads again as the same.
func TestZonesAreShown(t *testing.T) {
	t.Parallel()
	h, _, _ := zonesHost(t)
	shown := h.run("config", "show")
	for _, want := range []string{"    example.org:\n      provider: rfc2136\n", "    dev.example.com:\n      provider: httpreq\n", "HTTPREQ_PASSWORD: file:/", "DNSUPDATE_TSIG_KEY: org.\n"} {
		if !strings.Contains(shown.stdout, want) {
			t.Errorf("config show: %s\nwant %q", shown.stdout, want)
		}
	}
	h.edit(`HTTPREQ_PASSWORD: "file:`, `HTTPREQ_PASSWORD: "swordfish`)
	if got := h.run("config", "show"); strings.Contains(got.stdout+got.stderr, "swordfish") || !strings.Contains(got.stdout, "HTTPREQ_PASSWORD: (secret)") {
		t.Errorf("%s", got.stdout)
	}
	if got := h.run("check"); !strings.Contains(got.stderr, "dns.zones[example.com].env.HTTPREQ_PASSWORD: the secret stands") || strings.Contains(got.stderr, "swordfish") {
		t.Errorf("check: %s", got.stderr)
	}
}

package dnsprovider_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestOneUpdateAZone: a wildcard and its apex share a name, others use it too, and nothing but our values is touched.
func TestOneUpdateAZone(t *testing.T) {
	w, s := newWorld(t)
	if err := w.Add(`_acme-challenge.example.org. 60 IN TXT "foreign"`, `_acme-challenge.mx.example.org. 60 IN TXT "one"`); err != nil {
		t.Fatal(err)
	}
	solver := newSolver(t, "rfc2136", environ(s.Address()))
	records := []dnsprovider.TXT{record("example.org", "apex"), record("example.org", "wild"), record("mx.example.org", "mx"), record("mail.example.com", "com")}
	if err := solver.Present(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string][]string{"example.org": {"apex", "foreign", "wild"}, "mx.example.org": {"mx", "one"}, "mail.example.com": {"com"}} {
		if got := values(w, domain); !slices.Equal(got, want) {
			t.Errorf("%s holds %q", domain, got)
		}
	}
	if org, com := w.UpdateCount("example.org"), w.UpdateCount("example.com"); org != 1 || com != 1 {
		t.Errorf("%d and %d updates", org, com)
	}
	if u := w.Updates()[0]; u.Key != keyName || len(u.Deletes) != 0 || !strings.Contains(u.Adds[0], "\t60\t") {
		t.Errorf("the update: %+v", u)
	}
	for i := range 2 { // what is already gone is no error
		if err := solver.CleanUp(t.Context(), records); err != nil {
			t.Fatal(err)
		}
		if org, com := w.UpdateCount("example.org"), w.UpdateCount("example.com"); org != 2+i || com != 2+i {
			t.Errorf("%d and %d updates", org, com)
		}
	}
	for domain, want := range map[string][]string{"example.org": {"foreign"}, "mx.example.org": {"one"}, "mail.example.com": nil} {
		if got := values(w, domain); !slices.Equal(got, want) {
			t.Errorf("%s holds %q after the clean-up", domain, got)
		}
	}
	if err := solver.Present(t.Context(), nil); err != nil || len(w.Updates()) != 6 {
		t.Errorf("nothing to do: %v, %d updates", err, len(w.Updates()))
	}
}

// TestOneZoneFails: the others are done, and the error names the one.
func TestOneZoneFails(t *testing.T) {
	w, _ := newWorld(t)
	s := listen(t, w, "127.0.0.1:0", "example.com")
	err := newSolver(t, "rfc2136", environ(s.Address())).Present(t.Context(), []dnsprovider.TXT{record("mx.example.org", "x"), record("mx.example.com", "y")})
	if err == nil || !strings.Contains(err.Error(), "zone example.org") || strings.Contains(err.Error(), "example.com") {
		t.Errorf("got %v", err)
	}
	if got := values(w, "mx.example.com"); !slices.Equal(got, []string{"y"}) {
		t.Errorf("example.com holds %q", got)
	}
}

func TestCancelledUpdate(t *testing.T) {
	t.Parallel()
	_, s := newWorld(t)
	s.SetFaults(nameserver.Faults{Dead: true})
	const most = 1800 * time.Millisecond // a datagram without an answer is waited for longer
	for what, env := range map[string]map[string]string{"the update": environ(s.Address(), "DNS_TIMEOUT", "60"), "finding the server": environ("", "DNS_TIMEOUT", "60")} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			solver := newSolver(t, "rfc2136", env, s.Address())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			start := time.Now()
			time.AfterFunc(100*time.Millisecond, cancel)
			err := solver.Present(ctx, []dnsprovider.TXT{record("mx.example.org", "x"), record("mx.example.com", "x")})
			if !errors.Is(err, context.Canceled) || time.Since(start) > most {
				t.Errorf("%v after %s", err, time.Since(start))
			}
		})
	}
}

// TestPrimaryFromSOA: without a configured server the zone's primary takes the updates, also those for records of the
// journal, which know no primary.
func TestPrimaryFromSOA(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can listen on port 53")
	}
	w := nameserver.New()
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	if err := w.AddZone("example.org", "@ SOA primary hostmaster 1 60 60 60 5", "@ NS other", "primary A "+address, "other A 192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if err := w.AddKey(keyName, dns.HmacSHA256, secret); err != nil {
		t.Fatal(err)
	}
	listen(t, w, address+":53")
	env := environ("")
	solver := newSolver(t, "rfc2136", env, listen(t, w, "127.0.0.1:0").Address())
	r := record("mx.example.org", "x")
	r.Primary = "primary.example.org."
	if err := solver.Present(t.Context(), []dnsprovider.TXT{r}); err != nil {
		t.Fatal(err)
	}
	r.Primary = ""
	if err := solver.CleanUp(t.Context(), []dnsprovider.TXT{r}); err != nil || len(w.Challenges()) != 0 {
		t.Errorf("%v, left %v", err, w.Challenges())
	}
	r.Primary = "nowhere.example.org."
	err := solver.Present(t.Context(), []dnsprovider.TXT{r})
	if e, ok := errors.AsType[*dnsprovider.Error](err); !ok || !e.Temporary() || !strings.Contains(e.Error(), "nowhere.example.org") || !strings.Contains(e.Hint(), "DNSUPDATE_NAMESERVER") {
		t.Errorf("a primary without address: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	w, s := newWorld(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tsigKeygen := "key \"mxcert\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n"
	for what, env := range map[string]map[string]string{
		"key file of tsig-keygen": {"DNSUPDATE_TSIG_FILE": write("tsig.key", tsigKeygen)},
		"key file, one line":      {"RFC2136_TSIG_FILE": write("line.key", strings.ReplaceAll(tsigKeygen, "\n", " "))},
		"secret in a file":        {"DNSUPDATE_TSIG_KEY": "mxcert", "DNSUPDATE_TSIG_SECRET_FILE": write("secret", secret+"\n")},
		"all in files":            {"DNSUPDATE_TSIG_KEY_FILE": write("name", "mxcert.\n"), "DNSUPDATE_TSIG_SECRET_FILE": write("secret", secret), "DNSUPDATE_TSIG_ALGORITHM": "HMAC-SHA256"},
		"a value beside the file": {"DNSUPDATE_TSIG_KEY": "mxcert", "DNSUPDATE_TSIG_SECRET": secret, "DNSUPDATE_TSIG_SECRET_FILE": write("other", "AAAA")},
		"the old names":           {"RFC2136_TSIG_KEY": "mxcert.", "RFC2136_TSIG_SECRET": secret, "RFC2136_TTL": "30", "RFC2136_PROPAGATION_TIMEOUT": "60"},
	} {
		env["DNSUPDATE_NAMESERVER"] = s.Address()
		w.ResetLog()
		if err := newSolver(t, "rfc2136", env).Present(t.Context(), []dnsprovider.TXT{record("mx.example.org", "x")}); err != nil || w.UpdateCount("") != 1 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestBadSettings(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	short := secret[:len(secret)-1]
	for _, tt := range []struct {
		what string
		env  map[string]string
		says string
	}{
		{"nothing", map[string]string{}, "DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET: both are needed"},
		{"no secret", environ("192.0.2.1", "TSIG_SECRET", ""), "both are needed"},
		{"a secret that is cut", environ("192.0.2.1", "TSIG_SECRET", short), "DNSUPDATE_TSIG_SECRET: it is not base64"},
		{"an old algorithm", environ("192.0.2.1", "TSIG_ALGORITHM", "hmac-md5.sig-alg.reg.int."), `"hmac-md5.sig-alg.reg.int." is not supported`},
		{"a key name with a space", environ("192.0.2.1", "TSIG_KEY", "my key"), `DNSUPDATE_TSIG_KEY: "my key" cannot be the name`},
		{"a TTL in words", environ("192.0.2.1", "TTL", "1h"), `DNSUPDATE_TTL: "1h" is not a number of seconds`},
		{"a TTL of zero", environ("192.0.2.1", "TTL", "0"), "DNSUPDATE_TTL"},
		{"a long timeout", environ("192.0.2.1", "DNS_TIMEOUT", "99999999999999999999"), "DNSUPDATE_DNS_TIMEOUT"},
		{"a misspelt variable", environ("192.0.2.1", "TSIG_SECERT", "x"), "DNSUPDATE_TSIG_SECERT: this provider has no such variable"},
		{"another provider's variable", map[string]string{"CLOUDFLARE_DNS_API_TOKEN": secret}, "CLOUDFLARE_DNS_API_TOKEN: this provider has no such variable"},
		{"a missing key file", environ("192.0.2.1", "TSIG_FILE", missing), missing},
		{"a missing secret file", environ("192.0.2.1", "TSIG_SECRET", "", "TSIG_SECRET_FILE", missing), "DNSUPDATE_TSIG_SECRET_FILE"},
	} {
		_, err := dnsprovider.New("rfc2136", tt.env, resolve.New(nil))
		e, ok := errors.AsType[*dnsprovider.Error](err)
		if !ok || !strings.Contains(e.Error(), tt.says) || e.Kind() != "dns-config" || e.Hint() == "" || e.Temporary() {
			t.Errorf("%s: %v", tt.what, err)
		} else if strings.Contains(e.Error(), short) {
			t.Errorf("%s: the secret is in %v", tt.what, e)
		}
	}
}

// TestUpdateFailures: an error says which provider could not do what, for which names, and where. What a server may answer
// is tested in package dnsupdate.
func TestUpdateFailures(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	failing := func(f nameserver.Faults) string {
		s := listen(t, w, "127.0.0.1:0")
		s.SetFaults(f)
		return s.Address()
	}
	other := strings.Replace(secret, secret[:4], "AAAA", 1)
	for _, tt := range []struct {
		what      string
		env       map[string]string
		record    dnsprovider.TXT
		says      string
		hint      string
		kind      string
		temporary bool
	}{
		{what: "wrong secret", env: environ(s.Address(), "TSIG_SECRET", other), says: "BADSIG at " + s.Address(), hint: "DNSUPDATE_TSIG_SECRET", kind: "tsig"},
		{what: "refused", env: environ(failing(nameserver.Faults{UpdateRcode: dns.RcodeRefused})), says: "REFUSED", hint: "grant mxcert. name _acme-challenge.mx.example.org. txt", kind: "dns-update"},
		{what: "a name outside the zone", env: environ(s.Address()),
			record: dnsprovider.TXT{Place: resolve.Place{Name: "_acme-challenge.x.example.net.", Zone: "example.org."}, Domain: "x.example.net"}, says: "NOTZONE", hint: "primary", kind: "dns-update"},
		{what: "no updates", env: environ(failing(nameserver.Faults{UpdateRcode: dns.RcodeNotImplemented})), says: "NOTIMP", hint: "mxcert providers", kind: "dns-update"},
		{what: "another code", env: environ(failing(nameserver.Faults{UpdateRcode: dns.RcodeYXDomain})), says: "YXDOMAIN", hint: "look at", kind: ""},
		{what: "dead", env: environ(failing(nameserver.Faults{Dead: true})), says: "no answer", hint: "running", kind: "dns-unreachable", temporary: true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			if tt.record.Name == "" {
				tt.record = record("mx.example.org", "value")
			}
			present, cleaning := newSolver(t, "rfc2136", tt.env), newSolver(t, "rfc2136", tt.env)
			for _, act := range []func(context.Context, []dnsprovider.TXT) error{present.Present, cleaning.CleanUp, present.(dnsprovider.Checker).Check} {
				err := act(t.Context(), []dnsprovider.TXT{tt.record})
				e, ok := errors.AsType[*dnsprovider.Error](err)
				if !ok {
					t.Fatalf("got %v", err)
				}
				if !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) || tt.kind != "" && e.Kind() != tt.kind || e.Temporary() != tt.temporary {
					t.Errorf("%v\nhint %s\nkind %s, temporary %v", e, e.Hint(), e.Kind(), e.Temporary())
				}
				if !strings.Contains(e.Error(), "DNS provider rfc2136: cannot ") || !strings.Contains(e.Error(), "for "+tt.record.Domain+" in zone "+strings.TrimSuffix(tt.record.Zone, ".")) {
					t.Errorf("%v does not say what and where", e)
				}
				if text := e.Error() + e.Hint(); strings.Contains(text, secret) || strings.Contains(text, other) || strings.Contains(text, "thirty-two") {
					t.Errorf("the secret is in %s", text)
				}
			}
		})
	}
}

// TestRefusedUpdate: what the server refused to create need not be removed, zone by zone; what is created in a second try is.
func TestRefusedUpdate(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	solver := newSolver(t, "rfc2136", environ(s.Address()))
	refused, other := record("mx.example.org", "value"), record("mx.example.com", "value")
	s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Opcode == dns.OpcodeUpdate && request.Question[0].Name == "example.org." {
			reply.Rcode = dns.RcodeRefused
		}
		return reply
	}})
	if err := solver.Present(t.Context(), []dnsprovider.TXT{refused, other}); err == nil || len(values(w, "mx.example.com")) != 1 {
		t.Fatalf("%v, %v", err, values(w, "mx.example.com"))
	}
	if err := solver.CleanUp(t.Context(), []dnsprovider.TXT{refused, other}); err != nil || len(values(w, "mx.example.com")) != 0 {
		t.Errorf("%v, %v", err, values(w, "mx.example.com"))
	}
	s.SetFaults(nameserver.Faults{})
	if err := solver.Present(t.Context(), []dnsprovider.TXT{refused}); err != nil {
		t.Fatal(err)
	}
	if err := solver.CleanUp(t.Context(), []dnsprovider.TXT{refused}); err != nil || len(values(w, "mx.example.org")) != 0 {
		t.Errorf("%v, %v", err, values(w, "mx.example.org"))
	}
}

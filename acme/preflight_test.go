package acme_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/acme/finding"
	"mxcert/acme/preflight"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// withMeta changes the meta object of the CA's directory.
func withMeta(change func(meta map[string]any)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != ca.Directory {
				next.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			var document map[string]any
			if err := json.Unmarshal(answer.Body.Bytes(), &document); err != nil {
				panic(err)
			}
			meta, _ := document["meta"].(map[string]any)
			change(meta)
			_ = json.NewEncoder(w).Encode(document)
		})
	}
}

// identified is a CA whose CAA identity is ca.example.
func identified(meta map[string]any) { meta["caaIdentities"] = []string{"ca.example"} }

// refusing makes a server that has only zones below a name, and asks nobody for others.
func refusing(name string) func(_, reply *dns.Msg) *dns.Msg {
	return func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Name == name {
			reply.Rcode, reply.Ns = dns.RcodeRefused, nil
		}
		return reply
	}
}

// found are findings of one kind.
type found struct {
	id       string
	severity finding.Severity
	name     string
	says     string // part of message or hint
}

func (f found) in(list []finding.Finding) bool {
	return slices.ContainsFunc(list, func(g finding.Finding) bool {
		return g.ID == f.id && g.Severity == f.severity && g.Subject == f.name && strings.Contains(g.Message+"\n"+g.Hint, f.says)
	})
}

func listed(list []finding.Finding) string {
	var text strings.Builder
	for _, f := range list {
		fmt.Fprintf(&text, "\n  %s %s %s: %s [%s]", f.ID, f.Severity, f.Subject, f.Message, f.Hint)
	}
	return text.String()
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	const mx = "mx.example.org"
	for _, tt := range []struct {
		what        string
		names       []string // default mx.example.org
		profile     string
		require     resolve.Require
		records     []string // added to the zones
		zones       map[string][]string
		bogus       string // a zone
		meta        func(map[string]any)
		wrap        func(http.Handler) http.Handler
		resolver    nameserver.Faults // of the primary, which is the resolver
		second      nameserver.Faults // of ns2
		want        []found
		errors      int
		warningFree bool
	}{
		{what: "all is well", warningFree: true, want: []found{
			{"caa", finding.OK, mx, "no CAA record"}, {"profile", finding.OK, "", "default profile"}, {"dnssec", finding.OK, "example.org", ""},
			{"challenge", finding.OK, mx, "goes to _acme-challenge.mx.example.org, in zone example.org"}, {"delegation", finding.OK, "example.org", "SOA serial 1"},
		}},
		{what: "nobody answers for the names above the zone", resolver: nameserver.Faults{Edit: refusing("org.")}, warningFree: true, want: []found{
			{"caa", finding.OK, mx, "no CAA record in zone example.org; the zones above cannot be asked"},
			{"delegation", finding.OK, "example.org", "the parent zone cannot be asked"},
		}},
		{what: "CAA of the domain", records: []string{`example.org. CAA 0 issue "ca.example"`}, warningFree: true, want: []found{{"caa", finding.OK, mx, "records of example.org let"}}},
		{what: "CAA of the domain for another", records: []string{`example.org. CAA 0 issue "evil.example"`}, errors: 1,
			want: []found{{"caa", finding.Error, mx, `issue names evil.example`}, {"caa", finding.Error, mx, `add to the zone: example.org. CAA 0 issue "ca.example"`}}},
		{what: "CAA of the name before that of the domain", records: []string{`example.org. CAA 0 issue "evil.example"`, `mx.example.org. CAA 0 issue "ca.example"`},
			names: []string{mx, "host7.example.org"}, errors: 1, want: []found{{"caa", finding.OK, mx, "records of mx.example.org"}, {"caa", finding.Error, "host7.example.org", "evil"}}},
		{what: "CAA where a CNAME leads", names: []string{"www.example.org"}, records: []string{"www.example.org. CNAME web.example.com.", `web.example.com. CAA 0 issue "evil.example"`},
			errors: 1, want: []found{{"caa", finding.Error, "www.example.org", "at web.example.com, where a CNAME leads"}}},
		{what: "the way up is that of the name", names: []string{"www.example.org"}, records: []string{"www.example.org. CNAME web.example.com.", `example.com. CAA 0 issue "evil.example"`, "web.example.com. A 127.0.0.1"},
			want: []found{{"caa", finding.OK, "www.example.org", "no CAA record"}}},
		{what: "issuewild", names: []string{"*.example.org", "example.org"}, records: []string{`example.org. CAA 0 issue "ca.example"`, `example.org. CAA 0 issuewild ";"`}, errors: 1,
			want: []found{{"caa", finding.Error, "*.example.org", "no CA issue (issuewild)"}, {"caa", finding.OK, "example.org", "let"}}},
		{what: "an account that is not here", records: []string{`example.org. CAA 0 issue "ca.example; accounturi=https://ca.example/acct/1"`}, errors: 1,
			want: []found{{"caa", finding.Error, mx, "https://ca.example/acct/1"}}},
		{what: "another method", records: []string{`example.org. CAA 0 issue "ca.example; validationmethods=http-01"`}, errors: 1, want: []found{{"caa", finding.Error, mx, "dns-01"}}},
		{what: "a critical property", records: []string{`example.org. CAA 128 future "x"`}, errors: 1, want: []found{{"caa", finding.Error, mx, `critical property "future"`}}},
		{what: "a CA without identity", records: []string{`example.org. CAA 0 issue "evil.example"`}, meta: func(m map[string]any) { delete(m, "caaIdentities") }, want: []found{{"caa", finding.Warning, mx, "cannot judge"}}},

		{what: "a bogus zone", bogus: "example.org", errors: 1, want: []found{{"dnssec", finding.Error, "example.org", "DNSSEC Bogus"}, {"caa", finding.Warning, mx, "cannot be looked up"}, {"challenge", finding.Warning, mx, "SERVFAIL"}}},
		{what: "the alias leads into a bogus zone", bogus: "example.com", records: []string{"_acme-challenge.mx.example.org. CNAME x.example.com."}, errors: 1,
			want: []found{{"dnssec", finding.Error, "example.com", "bogus"}, {"caa", finding.OK, mx, ""}}},
		{what: "a resolver that fails", resolver: nameserver.Faults{Rcode: dns.RcodeServerFailure}, want: []found{{"challenge", finding.Warning, mx, "SERVFAIL"}, {"caa", finding.Warning, mx, "SERVFAIL"}}},
		{what: "a resolver that refuses", resolver: nameserver.Faults{Rcode: dns.RcodeRefused}, errors: 1, want: []found{{"challenge", finding.Error, mx, "REFUSED"}}},

		{what: "an alias", records: []string{"_acme-challenge.mx.example.org. CNAME x.example.com."}, warningFree: true,
			want: []found{{"challenge", finding.OK, mx, "is an alias: the TXT record goes to x.example.com, in zone example.com"}, {"delegation", finding.OK, "example.com", ""}, {"delegation", finding.OK, "example.org", ""}}},
		{what: "a loop of aliases", records: []string{"_acme-challenge.mx.example.org. CNAME loop.example.org.", "loop.example.org. CNAME _acme-challenge.mx.example.org."}, errors: 1, want: []found{{"challenge", finding.Error, mx, "loop"}}},
		{what: "no such top-level domain", names: []string{"mx.example.lan"}, errors: 1, want: []found{{"challenge", finding.Error, "mx.example.lan", "is not in any zone"}}},
		{what: "a zone without servers", zones: map[string][]string{"sub.example.org": nil}, names: []string{"mx.sub.example.org"}, errors: 1, want: []found{{"delegation", finding.Error, "sub.example.org", "no name server"}}},
		{what: "a lame server", second: nameserver.Faults{Lame: true}, want: []found{{"delegation", finding.Warning, "example.org", "ns2.example.org"}, {"delegation", finding.Warning, "example.org", "REFUSED"}}},
		{what: "a dead server", second: nameserver.Faults{Dead: true}, want: []found{{"delegation", finding.Warning, "example.org", "no answer"}}},
		{what: "nobody looks at servers", second: nameserver.Faults{Lame: true}, require: resolve.None, warningFree: true, want: []found{{"challenge", finding.OK, mx, ""}}},
		{what: "the parent names another server", zones: map[string][]string{"sub.example.org": {"@ NS ns1.example.org.", "mx A 127.0.0.1"}, "org": {"@ NS ns1.example.org.", "example NS ns1.example.org.", "example NS old.example.org."}}, // the lab's server answers for the child when it is asked as the parent
			names: []string{"mx.sub.example.org"}, want: []found{{"delegation", finding.OK, "sub.example.org", ""}}},

		{what: "a profile that the CA has", profile: "short", warningFree: true, want: []found{{"profile", finding.OK, "", "short"}}},
		{what: "a profile that it has not", profile: "long", errors: 1, want: []found{{"profile", finding.Error, "", "default, short"}}},
		{what: "a CA without profiles", profile: "long", meta: func(m map[string]any) { identified(m); delete(m, "profiles") }, want: []found{{"profile", finding.Warning, "", "no profiles"}}},
		{what: "a CA that is away", wrap: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		}, want: []found{{"ca", finding.Warning, "", "cannot be asked"}, {"challenge", finding.OK, mx, ""}}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			opts := lab.Options{Secondaries: 1, CA: ca.Options{Profiles: map[string]time.Duration{"short": 6 * 24 * time.Hour}, Wrap: tt.wrap}}
			if opts.CA.Wrap == nil {
				meta := tt.meta
				if meta == nil {
					meta = identified
				}
				opts.CA.Wrap = withMeta(meta)
			}
			w := newWorld(t, opts)
			for zone, records := range tt.zones {
				if err := w.World.AddZone(zone, records...); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.World.Add(tt.records...); err != nil {
				t.Fatal(err)
			}
			if tt.bogus != "" {
				if err := w.World.SetTrust(tt.bogus, nameserver.Bogus); err != nil {
					t.Fatal(err)
				}
			}
			w.Primary.SetFaults(tt.resolver)
			w.Secondaries[0].SetFaults(tt.second)
			if tt.names == nil {
				tt.names = []string{mx}
			}
			before := w.changes(t)
			list := w.preflight(t, preflight.Request{Names: tt.names, Profile: tt.profile, Require: tt.require})
			for _, f := range tt.want {
				if !f.in(list) {
					t.Errorf("not found: %+v in%s", f, listed(list))
				}
			}
			if got := count(list, finding.Error); got != tt.errors || (acme.Blocked(list) != nil) != (got > 0) {
				t.Errorf("%d errors, want %d:%s", got, tt.errors, listed(list))
			}
			if tt.warningFree && count(list, finding.Warning) > 0 {
				t.Errorf("warnings:%s", listed(list))
			}
			if after := w.changes(t); after != before {
				t.Errorf("something has changed: %s, before: %s", after, before)
			}
		})
	}
}

func count(list []finding.Finding, severity finding.Severity) (n int) {
	for _, f := range list {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// preflight looks with a client and a resolver of its own.
func (w *world) preflight(t *testing.T, q preflight.Request) []finding.Finding {
	t.Helper()
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	q.Resolver = resolve.New(w.setup.NameServers[:1], w.setup.NameServers[1:]...)
	return client.Preflight(t.Context(), q)
}

// changes describes all that a look may not change.
func (w *world) changes(t *testing.T) string {
	t.Helper()
	var files []string
	_ = filepath.Walk(w.State, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			files = append(files, path)
		}
		return nil
	})
	other := 0
	for _, r := range w.CA.Requests() {
		if r.Endpoint != ca.Directory {
			other++
		}
	}
	return fmt.Sprintf("%d updates, %d requests beside the directory, files %q", len(w.World.Updates()), other, files)
}

// TestPreflightKnowsTheAccount: a CAA record may name the account, and says so only once there is one.
func TestPreflightKnowsTheAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{Wrap: withMeta(identified)}})
	w.order(t, nil)
	store, err := state.Open(disk.Open(w.State))
	if err != nil {
		t.Fatal(err)
	}
	account, ok, err := store.Account(w.setup.Directory)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for uri, want := range map[string]finding.Severity{account.URL: finding.OK, account.URL + "0": finding.Error} {
		if err := w.World.Replace(`example.org. CAA 0 issue "ca.example; accounturi=` + uri + `"`); err != nil {
			t.Fatal(err)
		}
		list := w.preflight(t, preflight.Request{Names: w.Names})
		if f := (found{"caa", want, "mx.example.org", ""}); !f.in(list) {
			t.Errorf("%s: %s", uri, listed(list))
		}
	}
}

// TestPreflightOfSeveralCAs: what one of them refuses, another may not.
func TestPreflightOfSeveralCAs(t *testing.T) {
	t.Parallel()
	first := newWorld(t, lab.Options{CA: ca.Options{Wrap: withMeta(identified)}})
	other := newWorld(t, lab.Options{CA: ca.Options{Wrap: withMeta(func(m map[string]any) { m["caaIdentities"] = []string{"other.example"} })}})
	store, err := state.Open(disk.Open(first.State))
	if err != nil {
		t.Fatal(err)
	}
	var settings []acme.Settings
	for _, w := range []*world{first, other} {
		roots, err := pool(w.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		settings = append(settings, acme.Settings{Directory: w.setup.Directory, Roots: roots, UserAgent: "mxcert/test"})
	}
	all := acme.NewAuthorities(store, settings...)
	defer all.Close()
	q := preflight.Request{Names: []string{"mx.example.org"}, Resolver: resolve.New(first.setup.NameServers)}
	for _, tt := range []struct {
		allowed          string
		errors, warnings int
	}{{"other.example", 0, 1}, {"ca.example", 0, 1}, {"nobody.example", 2, 0}} {
		if err := first.World.Replace(`example.org. CAA 0 issue "` + tt.allowed + `"`); err != nil {
			t.Fatal(err)
		}
		first.World.ResetLog()
		q.Resolver = resolve.New(first.setup.NameServers)
		list := all.Preflight(t.Context(), q)
		if count(list, finding.Error) != tt.errors || count(list, finding.Warning) != tt.warnings {
			t.Errorf("%s may issue:%s", tt.allowed, listed(list))
		}
		asked := 0
		for _, question := range first.World.Queries() {
			if question.Type == dns.TypeCAA {
				asked++
			}
		}
		if asked > 2 {
			t.Errorf("%d questions for CAA records", asked)
		}
	}
}

// TestPreflightWithoutIPv6: this host has an IPv6 address, and nothing comes back.
func TestPreflightWithoutIPv6(t *testing.T) {
	t.Parallel()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	defer conn.Close()
	w := newWorld(t, lab.Options{})
	if err := w.World.Add("ns1.example.org. AAAA ::1"); err != nil {
		t.Fatal(err)
	}
	w.setup.NameServers = append(w.setup.NameServers, conn.LocalAddr().String())
	for require, hint := range map[resolve.Require]string{resolve.All: "quorum, which counts each name server once", resolve.Quorum: "ping -6"} {
		list := w.preflight(t, preflight.Request{Names: []string{"mx.example.org"}, Require: require})
		if !(found{"delegation", finding.Warning, "example.org", "no IPv6 address answers (ns1.example.org [[::1]:"}).in(list) || !(found{"delegation", finding.Warning, "example.org", hint}).in(list) || count(list, finding.Warning) != 1 {
			t.Errorf("%s:%s", require, listed(list))
		}
	}
}

// TestPreflightIsFrugal: names share what is asked about their zone.
func TestPreflightIsFrugal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{Wrap: withMeta(identified)}})
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("h%d.example.org", i))
	}
	w.World.ResetLog()
	list := w.preflight(t, preflight.Request{Names: names, Require: resolve.All})
	if got, most := len(w.World.Queries()), 3*len(names)+15; got > most {
		t.Errorf("%d messages for %d names, %d would do", got, len(names), most)
	}
	if count(list, finding.Error) > 0 || len(list) < 2*len(names) {
		t.Errorf("found:%s", listed(list))
	}
}

// TestPreflightEnds: it stops when it is told to, and says what it did not look at.
func TestPreflightEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.Primary.SetFaults(nameserver.Faults{Dead: true})
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	start := time.Now()
	list := client.Preflight(ctx, preflight.Request{Names: w.Names, Resolver: resolve.New(w.setup.NameServers), Require: resolve.All})
	if took := time.Since(start); took > 5*time.Second { // a question over UDP and TCP takes six
		t.Errorf("it took %s", took)
	}
	if count(list, finding.Error) != 0 || count(list, finding.Warning) < 4 {
		t.Errorf("found:%s", listed(list))
	}
}

func TestBlocked(t *testing.T) {
	t.Parallel()
	if err := acme.Blocked([]finding.Finding{{ID: "caa", Severity: finding.Warning, Message: "x"}}); err != nil {
		t.Error(err)
	}
	err := acme.Blocked([]finding.Finding{{ID: "caa", Severity: finding.Error, Message: "one", Hint: "do this"}, {ID: "dnssec", Severity: finding.Error, Message: "two", Hint: "do that"}})
	e, ok := errors.AsType[*acme.Error](err)
	if !ok || e.Stage() != "preflight" || e.Kind() != "caa" || e.Hint() != "do this" || e.Temporary() || e.Charged || !strings.Contains(e.Message, "one; two") {
		t.Errorf("%+v", err)
	}
	for id, want := range map[string][2]string{"caa": {"preflight", "caa"}, "profile": {"preflight", "profile"}, "challenge": {"dns", "dns"}, "delegation": {"dns", "dns"}, "dnssec": {"dns", "dnssec"}} {
		e, ok := errors.AsType[*acme.Error](acme.Blocked([]finding.Finding{{ID: id, Severity: finding.Error}}))
		if !ok || [2]string{e.Stage(), e.ErrKind} != want {
			t.Errorf("%s: %+v", id, e)
		}
	}
}

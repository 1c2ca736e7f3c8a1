package pass

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/deploy/mx"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
)

// second is an MX host name of example.com that is this host.
const second = "mx2.example.org"

// newFound is a host with a mail domain whose MX host is this host, by an address of a NAT.
func newFound(t *testing.T, options lab.Options) *host {
	t.Helper()
	h := newHost(t, options, lab.ConfigOptions{MailDomains: []string{"example.com"}, Extra: "public_addresses: [\"192.0.2.10\"]\n"})
	h.edit("    keys:", "    mail_domains_confirm: 1h\n    keys:")
	h.check(h.World.Add(second + ". A 192.0.2.10"))
	h.check(h.World.Replace("example.com. MX 10 " + second + "."))
	return h
}

// later makes what looks have found older.
func (h *host) later(passed time.Duration) {
	h.t.Helper()
	back := func(i *state.Instant) {
		if !i.IsZero() {
			i.At, i.Up = i.At.Add(-passed), i.Up-passed
		}
	}
	h.check(h.lineage().ChangeNames(context.Background(), func(n *state.Names) bool {
		back(&n.Last)
		for i := range n.Seen {
			back(&n.Seen[i].Since)
		}
		return true
	}))
}

// mxIs makes a host the only MX host of example.com; "" removes all.
func (h *host) mxIs(name string) {
	h.t.Helper()
	if name == "" {
		h.check(h.World.Remove("example.com.", dns.TypeMX))
		return
	}
	h.check(h.World.Replace("example.com. MX 10 " + name + "."))
}

// has is whether the certificate in service has the second name.
func (h *host) has(want bool) {
	h.t.Helper()
	if got := slices.Contains(h.inCertificate(), second); got != want {
		h.t.Errorf("%s is in the certificate: %v, want %v: %v", second, got, want, h.inCertificate())
	}
}

// A name that looks find becomes wanted with the second look; one that is gone leaves with the next renewal.
func TestFoundName(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{})
	first := h.pass(report.CodeOK, renew)
	h.has(false)
	if len(first.Awaited) != 1 || first.Awaited[0].Name != second || first.Awaited[0].Reason != "MX of example.com" || first.NextLook.Before(time.Now().Add(59*time.Minute)) || first.Reasons["mx.example.org"] != "configured" {
		t.Errorf("%+v", first)
	}
	h.later(59 * time.Minute)
	h.pass(report.CodeOK, renew)
	if h.has(false); h.placed() != 1 {
		t.Errorf("%d orders after fifty-nine minutes", h.placed())
	}
	h.later(2 * time.Minute)
	if h.pass(report.CodeOK, renew); h.placed() != 1 { // the last look was two minutes ago
		t.Errorf("%d orders", h.placed())
	}
	h.later(10 * time.Minute)
	c := h.pass(report.CodeOK, renew)
	h.has(true)
	if h.placed() != 2 || c.Reasons[second] != "MX of example.com" || !slices.Equal(c.Names, []string{"mx.example.org", "host7.example.org", second}) || len(c.Awaited) != 0 || len(c.Missing) != 0 || !slices.Contains(h.events(), "name-found") {
		t.Errorf("%d orders, %+v, %v", h.placed(), c, h.events())
	}
	if s := h.look(report.CodeOK); s.Reasons[second] != "MX of example.com" {
		t.Errorf("status: %+v", s)
	}

	// Gone: two looks later it is not wanted any more, but that is no reason for an order.
	h.mxIs("mx.example.org")
	h.later(time.Hour)
	h.pass(report.CodeOK, renew)
	h.later(2 * time.Hour)
	c = h.pass(report.CodeOK, renew)
	h.has(true)
	if h.placed() != 2 || !slices.Equal(c.Leaving, []string{second}) || slices.Contains(c.Names, second) || !slices.Contains(h.events(), "name-gone") {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
	h.pass(report.CodeOK, atOnce)
	h.has(false)
	if c := h.look(report.CodeOK); len(c.Leaving) != 0 {
		t.Errorf("%+v", c)
	}
}

// Who asks for an order at once gets the names of one look.
func TestFoundNameAtOnce(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{})
	c := h.pass(report.CodeOK, atOnce)
	h.has(true)
	if h.placed() != 1 || c.Reasons[second] != "MX of example.com" {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
}

// However DNS fails, flaps or dies: no name is dropped, none is added, no pass fails or waits long, and a renewal does not wait at all.
func TestFoundNameAndDeadDNS(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{})
	h.pass(report.CodeOK, atOnce)
	fail := func(edit func(request, reply *dns.Msg) *dns.Msg) {
		h.Primary.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if q := request.Question[0]; q.Name == "example.com." && q.Qtype == dns.TypeMX || q.Name == second+"." && q.Qtype != dns.TypeTXT && q.Qtype != dns.TypeSOA {
				return edit(request, reply)
			}
			return reply
		}})
	}
	for what, edit := range map[string]func(request, reply *dns.Msg) *dns.Msg{
		"SERVFAIL": func(request, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(request, dns.RcodeServerFailure) },
		"REFUSED":  func(request, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(request, dns.RcodeRefused) },
		"silence":  func(_, _ *dns.Msg) *dns.Msg { return nil },
	} {
		fail(edit)
		for range 3 {
			h.later(2 * time.Hour)
			began := time.Now()
			c := h.pass(report.CodeOK, renew)
			if took := time.Since(began); took > 25*time.Second || h.placed() != 1 || !slices.Contains(c.Names, second) || len(c.Leaving) != 0 {
				t.Errorf("%s: %v, %d orders, %+v", what, took, h.placed(), c)
			}
			if c := h.look(report.CodeOK); !strings.Contains(strings.Join(c.Warnings, "\n"), "the MX records of example.com cannot be found") {
				t.Errorf("%s: %q", what, c.Warnings)
			}
		}
	}
	h.has(true)
}

// refuseThree makes the CA refuse orders of more than two names.
func refuseThree(kind, detail string) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.NewOrder {
				var jws struct{ Payload string }
				var order struct{ Identifiers []any }
				body, _ := io.ReadAll(r.Body)
				_ = json.Unmarshal(body, &jws)
				payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
				_ = json.Unmarshal(payload, &order)
				if r.Body = io.NopCloser(bytes.NewReader(body)); len(order.Identifiers) > 2 {
					w.Header().Set("Content-Type", "application/problem+json")
					w.Header().Set("Replay-Nonce", "unused")
					w.WriteHeader(http.StatusBadRequest)
					_, _ = fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":%q,"status":400}`, kind, detail)
					return
				}
			}
			inner.ServeHTTP(w, r)
		})
	}
}

// What only a found name makes fail does not fail the pass, and does not keep the others from being renewed.
func TestFoundNameThatCannotBeProven(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		breaks func(*host)
		reason string
	}{
		{"the zone of another account", func(h *host) {
			h.check(h.World.AddZone("elsewhere.example.", "@ NS ns1.example.org.", "mx A 192.0.2.10"))
			h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.Zone, lab.OtherZone))
			h.mxIs("mx.elsewhere.example")
		}, "elsewhere.example"},
		{"the CA refuses the name", func(h *host) { h.CA.SetWrap(refuseThree("rejectedIdentifier", "Cannot issue for "+second)) }, "Cannot issue"},
		{"the CA refuses an order of three names", func(h *host) { h.CA.SetWrap(refuseThree("malformed", "too many names")) }, "too many names"},
		{"the CA fails", func(h *host) { h.CA.SetWrap(refuseThree("serverInternal", "out of order")) }, "out of order"},
		{"the CA limits new sets of names", func(h *host) { h.CA.SetWrap(refuseThree("rateLimited", "too many certificates")) }, "too many certificates"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newFound(t, lab.Options{})
			h.pass(report.CodeOK, renew)
			tt.breaks(h)
			h.later(2 * time.Hour)
			h.pass(report.CodeOK, byDaemon)
			h.later(2 * time.Hour)
			c := h.pass(report.CodeOK, byDaemon)
			if len(c.LeftOut) != 1 || !strings.Contains(c.LeftOut[0].Reason, tt.reason) || c.Stage != report.Served || h.record().Failure != nil {
				t.Errorf("%+v, %+v, %+v", c, c.Error, h.record().Failure)
			}
			h.pass(report.CodeOK, byDaemon)
			if tt.what == "the CA fails" {
				return // every order waits for a CA that fails
			}
			past := time.Now().Add(-time.Hour)
			h.remember(func(r *state.Record) {
				r.Slot(bundle.EC256).Renewal = state.RenewalInfo{Start: past, End: past, At: past, NextCheck: time.Now().Add(time.Hour)}
			})
			before := h.placed()
			if c := h.pass(report.CodeOK, byDaemon); h.placed() != before+1 || c.Stage != report.Served {
				t.Errorf("%d orders for the renewal: %+v", h.placed()-before, c)
			}
			if got := h.inCertificate(); len(got) != 2 {
				t.Errorf("the certificate is for %v", got)
			}
		})
	}
}

// A pass that is killed before or after a look leaves what the next one needs; a damaged file is made again.
func TestFoundNamesFileIsDamaged(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{})
	h.pass(report.CodeOK, atOnce)
	for _, text := range []string{"{", "", `{"version":99}`} {
		h.check(os.WriteFile(h.lineage().NamesFile(), []byte(text), 0o600))
		c := h.pass(report.CodeOK, renew)
		if h.has(true); h.placed() != 1 || len(c.Leaving) > 1 {
			t.Errorf("%q: %d orders, %+v", text, h.placed(), c)
		}
		if text != `{"version":99}` && !slices.Contains(c.Names, second) {
			t.Errorf("%q: %v", text, c.Names)
		}
	}
}

// A name that somebody configures stays, whatever looks find; without mail domains nothing that was found is wanted, and nothing is ordered.
func TestFoundNameIsConfigured(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{})
	h.pass(report.CodeOK, atOnce)
	text := h.text()
	h.edit("host7.example.org\"]", "host7.example.org\", \""+second+"\"]")
	if c := h.pass(report.CodeOK, renew); c.Reasons[second] != "configured" || h.placed() != 1 {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
	h.write(text)
	h.edit("    mail_domains: [\"example.com\"]\n", "")
	if c := h.pass(report.CodeOK, renew); h.placed() != 1 || slices.Contains(c.Names, second) || !slices.Equal(c.Leaving, []string{second}) {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
}

// More names than a certificate can have: those that fit are taken, and the report names the others.
func TestTooManyFoundNames(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.check(h.lineage().ChangeNames(t.Context(), func(n *state.Names) bool {
		n.Seen, n.Last = nil, now()
		for i := range 120 {
			n.Seen = append(n.Seen, state.SeenName{Name: fmt.Sprintf("m%03d.example.org", i), Reason: "MX of example.com", Wanted: true})
		}
		return true
	}))
	c := Look(t.Context(), &helper.Looker{}, h.want(), h.lineage())
	if len(c.Names) != 100 || c.Names[99] != "m097.example.org" || !strings.Contains(strings.Join(c.Warnings, "\n"), "m098.example.org, ") {
		t.Errorf("%d names, %q", len(c.Names), c.Warnings)
	}
}

// A pass that is killed at any step, between the second look and the certificate with the name, is finished by the next one. Both place one order.
func TestKilledPassThatFindsAName(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		h := newFound(t, lab.Options{})
		h.pass(report.CodeOK, renew)
		h.later(2 * time.Hour)
		killed, out := h.killed(at)
		if !killed {
			if at < 8 || !strings.Contains(out, " names "+second) {
				t.Errorf("only %d steps:\n%s", at, out)
			}
			t.Logf("%d steps", at-1)
			return
		}
		c := h.pass(report.CodeOK, byDaemon)
		h.has(true)
		if n := h.placed(); n != 2 || c.Reasons[second] != "MX of example.com" {
			t.Errorf("killed at step %d, %d orders: %+v\n%s", at, n, c, out)
		}
		h.settled(at)
	}
}

// The owner of one mail domain, who may be somebody else, cannot push the names of the others out of the certificate with many MX hosts.
func TestManyNamesOfOneDomain(t *testing.T) {
	t.Parallel()
	many := mx.Found{Domain: "many.example"}
	for i := range 500 {
		many.Names = append(many.Names, mx.Name{Name: fmt.Sprintf("mx%d.many.example", i), Domain: "many.example"})
	}
	one := mx.Found{Domain: "one.example", Names: []mx.Name{{Name: "mx.one.example", Domain: "one.example"}}}
	var names state.Names
	at := state.Instant{At: time.Now()}
	names.Fold(state.Look{Names: inTurn([]mx.Found{many, {Domain: "none.example"}, one})}, at, time.Hour, true)
	wanted := names.Wanted()
	if len(wanted) < 3 || wanted[0].Name != "mx0.many.example" || wanted[1].Name != "mx.one.example" || wanted[1].Reason != "MX of one.example" || wanted[2].Name != "mx1.many.example" {
		t.Errorf("%+v", wanted[:min(3, len(wanted))])
	}
}

// Senders to a name that a look has just found may hold TLSA records, too: the gate asks for them before the key changes.
func TestFoundNameWithRecords(t *testing.T) {
	t.Parallel()
	h := newFound(t, lab.Options{Signed: true})
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	h.edit("    keys:", "    dane: {hold: 0s, ports: ["+port+"]}\n    keys:")
	h.pass(report.CodeOK, renew)
	before := h.inCertificate()
	h.check(h.World.Add("_" + port + "._tcp." + second + ". 2 TLSA " + (&daneHost{host: h}).record()))
	c := h.pass(report.CodeNotInService, Options{Force: true, NewKey: true})
	if !slices.Equal(h.inCertificate(), before) || c.Error.Kind != kindDANE || c.TLSA == nil || !slices.Contains(c.Names, second) {
		t.Errorf("%v, %+v, %+v", h.inCertificate(), c.Error, c.TLSA)
	}
}

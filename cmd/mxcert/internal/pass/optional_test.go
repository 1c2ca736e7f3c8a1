package pass

import (
	"context"
	"encoding/json"
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

	"mxcert/cmd/mxcert/internal/report"
)

// extra is an optional name in a zone of its own.
const extra = "mail.example.com"

// newOptional is a host with the optional name, and a world in which all names can be proven.
func newOptional(t *testing.T, options lab.Options) *host {
	t.Helper()
	return newHost(t, options, lab.ConfigOptions{Optional: []string{extra}})
}

// refuseUpdates makes the name server refuse updates of the zone of the optional name, or accept them again.
func (h *host) refuseUpdates(refuse bool) {
	h.t.Helper()
	var zones []string
	if refuse {
		zones = []string{lab.Zone}
	}
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), zones...))
}

// inCertificate lists the names in the file that is served.
func (h *host) inCertificate() []string {
	h.t.Helper()
	chain, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	h.check(err)
	return slices.Sorted(slices.Values(chain[0].DNSNames))
}

// tryNow makes the time of all names that are left out come.
func (h *host) tryNow() {
	h.t.Helper()
	h.remember(func(r *state.Record) {
		for i := range r.LeftOut {
			r.LeftOut[i].NextTry = time.Now().Add(-time.Second)
		}
	})
}

// without is the report that the optional name is left out.
func (h *host) without(r report.Certificate, reason string) {
	h.t.Helper()
	if r.Code != report.CodeOK || r.Stage != report.Served || len(r.LeftOut) != 1 || r.LeftOut[0].Name != extra || !strings.Contains(r.LeftOut[0].Reason, reason) ||
		!r.LeftOut[0].NextTry.After(time.Now()) || !slices.Equal(r.Missing, []string{extra}) {
		h.t.Errorf("want it served without %s because of %q: %+v, %v", extra, reason, r, r.Error)
	}
	if got := h.inCertificate(); !slices.Equal(got, []string{"host7.example.org", "mx.example.org"}) {
		h.t.Errorf("the certificate is for %v", got)
	}
}

// with is the report that nothing is left out.
func (h *host) with(r report.Certificate) {
	h.t.Helper()
	if r.Stage != report.Served || len(r.LeftOut) != 0 || len(r.Missing) != 0 || len(h.record().LeftOut) != 0 {
		h.t.Errorf("want it served with all names: %+v", r)
	}
	if got := h.inCertificate(); !slices.Equal(got, []string{"host7.example.org", extra, "mx.example.org"}) {
		h.t.Errorf("the certificate is for %v", got)
	}
}

// hideRecord makes the name server, asked as an authority, not show a challenge record.
func hideRecord(name string) nameserver.Faults {
	return nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Name == name && request.Question[0].Qtype == dns.TypeTXT {
			reply.Answer = nil
		}
		return reply
	}}
}

// A name that can be proven is in the first certificate, behind the others.
func TestOptionalNameThatWorks(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.with(h.pass(report.CodeOK, renew))
	if h.placed() != 1 {
		t.Errorf("%d orders", h.placed())
	}
	if g, err := h.lineage().Generations(); err != nil || g[0].Names[2] != extra {
		t.Errorf("%+v, %v", g, err)
	}
}

// Each way to fail leaves the name out in the same pass; the next passes order nothing; when the time has come and it works again, the name
// is back, for one order.
func TestOptionalNameIsLeftOutAndComesBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		options lab.Options
		breaks  func(*host)
		mends   func(*host)
		reason  string
		placed  int // orders until it is left out
		looks   bool
	}{
		{"no such zone", lab.Options{}, func(h *host) { h.zoneGone(true) },
			func(h *host) { h.zoneGone(false) }, "zone", 1, true},
		{"CAA forbids", lab.Options{}, func(h *host) {
			h.CA.SetWrap(withCAAIdentity)
			h.check(h.World.Add(extra + `. 60 IN CAA 0 issue "other.example"`))
		}, func(h *host) { h.check(h.World.Remove(extra+".", dns.TypeCAA)) }, "CAA", 1, true},
		{"the update is refused", lab.Options{}, func(h *host) { h.refuseUpdates(true) }, func(h *host) { h.refuseUpdates(false) }, "REFUSED", 2, true},
		{"the record is not served", lab.Options{}, func(h *host) { h.Primary.SetFaults(hideRecord("_acme-challenge." + extra + ".")) },
			func(h *host) { h.Primary.SetFaults(nameserver.Faults{}) }, "not visible", 2, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newOptional(t, tt.options)
			h.edit("timeout: 30s, require", "timeout: 1s, require")
			tt.breaks(h)
			h.without(h.pass(report.CodeOK, renew), tt.reason)
			if h.placed() != tt.placed || !slices.Contains(h.events(), "left-out") || !h.heard("left-out: "+extra+" is left out: ") {
				t.Errorf("%d orders, history %v", h.placed(), h.events())
			}
			for range 3 {
				h.without(h.pass(report.CodeOK, byDaemon), tt.reason)
			}
			h.without(h.look(report.CodeOK), tt.reason)
			if h.placed() != tt.placed {
				t.Errorf("%d orders before its time", h.placed())
			}
			h.tryNow()
			h.without(h.pass(report.CodeOK, byDaemon), tt.reason)
			placed := h.placed()
			if tt.looks && placed != tt.placed {
				t.Errorf("%d orders after a look that found it", placed)
			}
			if l := h.record().LeftOut[0]; l.Tries != 2 {
				t.Errorf("%+v", l)
			}
			tt.mends(h)
			h.tryNow()
			h.with(h.pass(report.CodeOK, byDaemon))
			if h.placed() != placed+1 || !slices.Contains(h.events(), "taken-in") {
				t.Errorf("%d orders more, history %v", h.placed()-placed, h.events())
			}
			if r := h.pass(report.CodeOK, byDaemon); r.Changed || h.placed() != placed+1 {
				t.Errorf("it is ordered again: %+v", r)
			}
		})
	}
}

// withCAAIdentity lets the CA say in its directory which CAA records name it.
func withCAAIdentity(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ca.EndpointOf(r.URL.Path) != ca.Directory {
			inner.ServeHTTP(w, r)
			return
		}
		answer := &answer{header: http.Header{}}
		inner.ServeHTTP(answer, r)
		var directory map[string]any
		_ = json.Unmarshal(answer.body, &directory)
		directory["meta"] = map[string]any{"caaIdentities": []string{"ca.example"}, "termsOfService": "data:text/plain,x"}
		text, _ := json.Marshal(directory)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	})
}

// answer keeps an answer.
type answer struct {
	header http.Header
	body   []byte
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(int)     {}
func (a *answer) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	return len(p), nil
}

// zoneGone makes the zone of the optional name not exist, or exist again.
func (h *host) zoneGone(gone bool) {
	f := nameserver.Faults{}
	if gone {
		f.Edit = func(request, reply *dns.Msg) *dns.Msg {
			if strings.HasSuffix(request.Question[0].Name, "example.com.") {
				reply.Answer, reply.Ns, reply.Rcode = nil, nil, dns.RcodeNameError
			}
			return reply
		}
	}
	h.Primary.SetFaults(f)
}

// The CA refuses the name by policy: that costs no further order than the one that works.
func TestNameThatTheCARefuses(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{CA: ca.Options{Blocked: []string{extra}}})
	h.without(h.pass(report.CodeOK, renew), "forbidden by policy")
	for range 3 { // each try is a new order that the CA does not take
		h.tryNow()
		h.without(h.pass(report.CodeOK, byDaemon), "forbidden by policy")
	}
	if h.placed() != 1 {
		t.Errorf("%d orders", h.placed())
	}
	if l := h.record().LeftOut[0]; l.Tries != 4 || time.Until(l.NextTry) < 23*time.Hour {
		t.Errorf("%+v", l)
	}
	// A name that is no longer wanted costs no order, and nobody hears of it.
	h.edit("    optional: [\""+extra+"\"]\n", "")
	if r := h.pass(report.CodeOK, renew); r.Changed || len(r.LeftOut)+len(r.Missing)+len(r.Warnings) > 0 || h.placed() != 1 || len(h.record().LeftOut) > 0 {
		t.Errorf("%d orders: %+v", h.placed(), r)
	}
}

// Both key types are without the name, for one order that fails.
func TestTwoKeysWithoutTheName(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{Optional: []string{extra}})
	h.refuseUpdates(true)
	if r := h.pass(report.CodeOK, renew); len(r.LeftOut) != 1 || len(r.Keys) != 2 || h.placed() != 3 {
		t.Errorf("%d orders: %+v", h.placed(), r)
	}
	h.refuseUpdates(false)
	h.tryNow()
	if r := h.pass(report.CodeOK, byDaemon); len(r.LeftOut)+len(r.Missing) != 0 || h.placed() != 5 {
		t.Errorf("%d orders: %+v", h.placed(), r)
	}
}

// What is left out is stored before another order is placed: a process that is killed in between does not place the failed order again.
func TestCutShortBetweenOrders(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.refuseUpdates(true)
	ctx, cancel := context.WithCancel(t.Context())
	h.CA.SetWrap(func(inner http.Handler) http.Handler {
		orders := 0
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.NewOrder {
				if orders++; orders == 2 {
					cancel()
					panic(http.ErrAbortHandler)
				}
			}
			inner.ServeHTTP(w, r)
		})
	})
	h.run(ctx, renew)
	if l := h.record().LeftOut; len(l) != 1 || h.placed() != 1 {
		t.Fatalf("%d orders, %+v", h.placed(), l)
	}
	h.CA.SetWrap(nil)
	h.without(h.pass(report.CodeOK, renew), "REFUSED")
	if h.placed() != 2 {
		t.Errorf("%d orders", h.placed())
	}
	// A record that is lost costs one order that fails.
	h.check(os.WriteFile(h.Path("state", "lineages", "mx", "record.json"), []byte("{"), 0o600))
	h.without(h.pass(report.CodeOK, renew), "REFUSED")
	if h.placed() != 3 {
		t.Errorf("%d orders", h.placed())
	}
}

// After a rollback to a certificate without the name, nothing is ordered.
func TestRollbackToFewerNames(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.refuseUpdates(true)
	h.pass(report.CodeOK, renew)
	h.refuseUpdates(false)
	h.tryNow()
	h.pass(report.CodeOK, renew)
	h.pass(report.CodeOK, rollback)
	placed := h.placed()
	if r := h.pass(report.CodeOK, byDaemon); r.Changed || h.placed() != placed {
		t.Errorf("%d orders more: %+v", h.placed()-placed, r)
	}
}

// A dry run says what would be ordered, and that the name would be tried; it changes nothing.
func TestDryRunWithoutTheName(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.refuseUpdates(true)
	h.pass(report.CodeOK, renew)
	if r := h.pass(report.CodeOK, dryRun); len(r.Plan) > 0 || len(r.LeftOut) != 1 {
		t.Errorf("%+v", r)
	}
	h.tryNow()
	before := h.record().LeftOut[0]
	if r := h.pass(report.CodeOK, dryRun); len(r.Plan) != 1 || !strings.Contains(r.Plan[0], extra) || h.record().LeftOut[0] != before || h.placed() != 2 {
		t.Errorf("%+v", r)
	}
}

// Hooks get the names in the certificate, and those that it lacks.
func TestHooksKnowWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.hook("deploy.d/show", `echo "$MXCERT_DOMAINS|$MXCERT_LEFT_OUT|$RENEWED_DOMAINS" > "$lab/seen"; cat >> "$lab/seen"`)
	h.refuseUpdates(true)
	h.pass(report.CodeOK, renew)
	text, err := os.ReadFile(h.Path("seen"))
	h.check(err)
	const names = "mx.example.org host7.example.org"
	if !strings.HasPrefix(string(text), names+"|"+extra+"|"+names+"\n") || !strings.Contains(string(text), `"left_out":["`+extra+`"]`) {
		t.Errorf("%s", text)
	}
}

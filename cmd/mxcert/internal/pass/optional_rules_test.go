package pass

import (
	"net/http"
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

// A required name that fails, fails everything, whatever the optional one does. Another domain of the list is no help.
func TestRequiredNameIsNeverLeftOut(t *testing.T) {
	t.Parallel()
	for what, breaks := range map[string]func(*host){
		"required": func(h *host) {
			h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.OtherZone))
		},
		"both": func(h *host) { h.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused}) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newOptional(t, lab.Options{})
			breaks(h)
			r := h.pass(report.CodeFailed, renew)
			if r.Error == nil || !strings.Contains(r.Error.Message, "REFUSED") || h.placed() != 1 || len(h.record().LeftOut) > 0 {
				t.Errorf("%d orders, left out %+v: %+v", h.placed(), h.record().LeftOut, r.Error)
			}
		})
	}
}

// What is not about the name leaves it in: the CA is down, the name server is down for everybody.
func TestFaultOfOthersLeavesNothingOut(t *testing.T) {
	t.Parallel()
	for what, breaks := range map[string]func(*host){
		"CA": func(h *host) {
			h.CA.SetWrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
			})
		},
		"updates":    func(h *host) { h.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeServerFailure}) },
		"TSIG key":   func(h *host) { h.put("credentials/tsig", "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=") },
		"all of DNS": func(h *host) { h.Primary.SetFaults(nameserver.Faults{Rcode: dns.RcodeServerFailure}) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newOptional(t, lab.Options{})
			breaks(h)
			if r := h.run(t.Context(), renew); r.Code == report.CodeOK || len(r.LeftOut) > 0 || len(h.record().LeftOut) > 0 || h.placed() > 1 {
				t.Errorf("%d orders: %+v", h.placed(), r)
			}
		})
	}
}

// A name that the certificate has stays while the cause may pass and there is time. A refusal leaves it out, and so does the end of the
// certificate's life.
func TestNameInTheCertificateWaits(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.edit("timeout: 30s, require", "timeout: 1s, require")
	h.with(h.pass(report.CodeOK, renew))
	h.remember(func(r *state.Record) {
		r.Slot(bundle.EC256).RenewAt, r.Slot(bundle.EC256).Renewal = time.Now().Add(-time.Hour), state.RenewalInfo{NextCheck: time.Now().Add(time.Hour)}
	})
	h.Primary.SetFaults(hideRecord("_acme-challenge." + extra + "."))
	if r := h.run(t.Context(), renew); r.Code != report.CodeTemporary || len(r.LeftOut) > 0 || len(r.Missing) > 0 || h.placed() != 2 || !h.heard(extra+" is optional, and the certificate in service has it") {
		t.Errorf("%d orders: %+v, %+v", h.placed(), r, r.Error)
	}
	h.Primary.SetFaults(nameserver.Faults{})
	h.refuseUpdates(true)
	h.without(h.pass(report.CodeOK, atOnce), "REFUSED")
}

// In the last tenth of its life, the certificate does not wait for the name.
func TestDangerEndsTheWait(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{CA: ca.Options{Validity: 30 * time.Second}})
	h.edit("timeout: 30s, require", "timeout: 1s, require")
	h.with(h.pass(report.CodeOK, renew))
	h.Primary.SetFaults(hideRecord("_acme-challenge." + extra + "."))
	g, err := h.lineage().Generations()
	h.check(err)
	time.Sleep(time.Until(g[0].NotAfter.Add(-2 * time.Second)))
	h.without(h.pass(report.CodeOK, atOnce), "not visible")
}

// With a new setting of DNS, or on a person's request, the name is tried at once.
func TestNameIsTriedBeforeItsTime(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.refuseUpdates(true)
	h.without(h.pass(report.CodeOK, renew), "REFUSED")
	h.refuseUpdates(false)
	h.edit("timeout: 30s, require", "timeout: 31s, require")
	h.with(h.pass(report.CodeOK, byDaemon))
	h.refuseUpdates(true)
	h.without(h.pass(report.CodeOK, atOnce), "REFUSED")
	h.refuseUpdates(false)
	h.with(h.pass(report.CodeOK, atOnce))
}

// A failure of the order that brings a name back is no failure of the pass: the certificate without the name is in service.
func TestComingBackNeverFails(t *testing.T) {
	t.Parallel()
	h := newOptional(t, lab.Options{})
	h.refuseUpdates(true)
	h.without(h.pass(report.CodeOK, renew), "REFUSED")
	h.refuseUpdates(false)
	h.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.NewOrder {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			inner.ServeHTTP(w, r)
		})
	})
	h.tryNow()
	h.without(h.pass(report.CodeOK, byDaemon), "REFUSED")
	if h.record().Failure != nil || h.record().Held != nil {
		t.Errorf("%+v", h.record())
	}
}

// A certificate of which all optional names fail is one of the required names.
func TestAllOptionalNamesFail(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{Blocked: []string{"a.example.com"}}}, lab.ConfigOptions{Optional: []string{"a.example.com", "b.example.com", "*.c.example.com"}})
	h.refuseUpdates(true)
	r := h.pass(report.CodeOK, renew)
	if len(r.LeftOut) != 3 || h.placed() != 2 || !slices.Equal(h.inCertificate(), []string{"host7.example.org", "mx.example.org"}) {
		t.Errorf("%d orders: %+v", h.placed(), r)
	}
}

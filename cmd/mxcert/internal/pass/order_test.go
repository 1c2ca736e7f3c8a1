package pass

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"

	"mxcert/cmd/mxcert/internal/report"
)

// The key stays over renewals unless a new one is asked for; then both files change together.
func TestKeyReuse(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	spki := func(options Options) string { return h.pass(report.CodeOK, options).Keys[0].SPKI }
	first := spki(renew)
	if again := spki(atOnce); again != first {
		t.Error("another certificate has a new key")
	}
	third := spki(newKey)
	if third == first {
		t.Error("the key was kept, and a new one was asked for")
	}
	h.edit("    keys: [ec256]", "    reuse_key: false\n    keys: [ec256]")
	if spki(atOnce) == third {
		t.Error("reuse_key: false kept the key")
	}
}

// A new key that was paid for and could not be put in service is what the next --new-key gets.
func TestNewKeyThatWaits(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew).Keys[0]
	h.pass(report.CodeOK, atOnce)
	h.edit("timeout: 30s}", "timeout: 1s}")
	h.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true})
	waiting := h.pass(report.CodeNotInService, newKey).Keys[0]
	if waiting.SPKI == first.SPKI || h.placed() != 3 {
		t.Fatalf("%+v after %d orders", waiting, h.placed())
	}
	h.SMTP.SetFaults(smtpd.Faults{})
	h.edit("timeout: 1s}", "timeout: 30s}")
	if got := h.pass(report.CodeOK, newKey).Keys[0]; got.Serial != waiting.Serial || h.placed() != 3 {
		t.Errorf("%+v after %d orders, want %+v", got, h.placed(), waiting)
	}
	if got := h.pass(report.CodeOK, newKey).Keys[0]; got.SPKI == waiting.SPKI || h.placed() != 4 {
		t.Errorf("%+v after %d orders, want another key", got, h.placed())
	}
}

func TestTwoKeyTypes(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{})
	c := h.pass(report.CodeOK, renew)
	if len(c.Keys) != 2 || len(c.Endpoints) != 2 || c.Keys[0].Serial == c.Keys[1].Serial {
		t.Fatalf("%+v", c)
	}
	for _, e := range c.Endpoints {
		if !e.Matches {
			t.Errorf("%s is not served: %+v", e.Key, e)
		}
	}
	if seen := h.look(report.CodeOK); len(seen.Keys) != 2 || seen.Stage != report.Served {
		t.Errorf("a look: %+v", seen)
	}
}

func TestChangedNamesAreOrdered(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	h.edit(`, "host7.example.org"`, "")
	r := h.pass(report.CodeOK, renew)
	if !r.Changed || len(r.Names) != 1 || h.placed() != 2 {
		t.Errorf("%+v", r)
	}
}

// A lost description costs no order: the certificate says what is in it, and the first CA is asked about its renewal.
func TestLostDescriptionOrdersNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	h.check(os.WriteFile(filepath.Join(h.generationsOf(bundle.EC256)[0], "meta.json"), nil, 0o600))
	h.remember(func(r *state.Record) { r.Slot(bundle.EC256).Renewal = state.RenewalInfo{} })
	says := func(c report.Certificate) bool {
		return strings.Contains(strings.Join(c.Warnings, "\n"), "from the certificate beside it")
	}
	if c := h.look(report.CodeOK); !says(c) || c.Stage != report.Served {
		t.Errorf("a look: %+v", c)
	}
	if c := h.pass(report.CodeOK, renew); !says(c) || c.Stage != report.Served || h.placed() != 1 || !slices.Contains(h.events(), "repaired") {
		t.Errorf("%d orders, history %q: %+v", h.placed(), h.events(), c)
	}
	if h.slot(bundle.EC256).Renewal.At.IsZero() {
		t.Error("no CA was asked about its renewal")
	}
	if c := h.pass(report.CodeOK, renew); says(c) {
		t.Errorf("after it was made again: %+v", c)
	}
}

func TestWildcardAndApexTogether(t *testing.T) {
	h := newHost(t, lab.Options{Secondaries: 1}, lab.ConfigOptions{Domains: []string{"mx.example.org", "*.mx.example.org", "example.com"}})
	if r := h.pass(report.CodeOK, renew); r.Stage != report.Served {
		t.Errorf("%+v", r)
	}
	if left := h.World.TXT("_acme-challenge.mx.example.org."); len(left) > 0 {
		t.Errorf("TXT records remain: %v", left)
	}
}

// Fifty impatient operators cost one order.
func TestManyAtOnceOrderOnce(t *testing.T) {
	// The lag keeps the first order open until all the others have asked: who asks after it was issued gets another.
	h := newHost(t, lab.Options{DNSLag: 3 * time.Second}, lab.ConfigOptions{})
	var group sync.WaitGroup
	codes := make([]report.Code, 50)
	options := Options{Force: true, Asked: time.Now()}
	for i := range codes {
		r := h.runner() // as in a process of its own
		group.Go(func() { codes[i] = r.Run(t.Context(), r.Host.Certificates[0], options, h.say).Code })
	}
	group.Wait()
	for i, code := range codes {
		if code != report.CodeOK {
			t.Errorf("run %d: exit code %d", i, code)
		}
	}
	if n := h.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// The CA refuses every other nonce: nothing of it is to be seen.
func TestBadNonces(t *testing.T) {
	h := newHost(t, lab.Options{CA: ca.Options{BadNonces: 50}}, lab.ConfigOptions{})
	if c := h.pass(report.CodeOK, renew); c.Stage != report.Served {
		t.Errorf("%+v", c)
	}
}

// An order that was paid for and not collected is collected by the next run, due or not.
func TestPaidOrderIsCollected(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	cut, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Certificate {
				time.AfterFunc(100*time.Millisecond, cancel)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			inner.ServeHTTP(w, r)
		})
	})
	if c := h.run(cut, atOnce); c.Code == report.CodeOK { // how it fails depends on the moment
		t.Errorf("cut short: exit code %d, %+v", c.Code, c.Error)
	}
	h.CA.SetWrap(nil)
	orders := h.CA.Count(ca.NewOrder)
	r := h.pass(report.CodeOK, renew)
	if !r.Changed || r.Keys[0].Serial == first || h.CA.Count(ca.NewOrder) != orders {
		t.Errorf("%d orders more, %+v", h.CA.Count(ca.NewOrder)-orders, r)
	}
	if again := h.pass(report.CodeOK, renew); again.Changed {
		t.Errorf("%+v", again)
	}
}

// TXT records that an earlier run left are removed at the next pass; if they cannot be, that is said, and nothing else fails.
func TestRecordsOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	leave := func() {
		h.check(h.World.Add(`_acme-challenge.mx.example.org. 60 IN TXT "left"`))
		_, err := h.lineage().Note(state.Entry{Provider: "rfc2136", Created: time.Now(), Records: []state.TXT{{Domain: "mx.example.org", Name: "_acme-challenge.mx.example.org.", Zone: "example.org.", Value: "left"}}})
		h.check(err)
	}
	leave()
	if c := h.pass(report.CodeOK, renew); len(c.Warnings) != 0 || len(h.World.Challenges()) > 0 {
		t.Errorf("left: %v, %q", h.World.Challenges(), c.Warnings)
	}
	leave()
	h.put("credentials/tsig", "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=")
	c := h.pass(report.CodeOK, renew)
	if len(c.Warnings) == 0 || !strings.Contains(c.Warnings[0], "TXT records of an earlier run remain: ") || c.Stage != report.Served {
		t.Errorf("%+v", c)
	}
	h.put("credentials/tsig", h.Secret())
	if h.pass(report.CodeOK, renew); len(h.World.Challenges()) > 0 {
		t.Errorf("left: %v", h.World.Challenges())
	}
}

// What an operator has to know about the account is in the report and in the history.
func TestAccountNotice(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	p := o.begin(renew)
	p.accountNotice("another account")
	p.accountNotice("another account")
	if events := p.have.Record.Events; len(p.warnings) != 1 || p.warnings[0] != "another account" || events[0].Event != "account" || events[0].Message != "another account" {
		t.Errorf("%q, %+v", p.warnings, events)
	}
}

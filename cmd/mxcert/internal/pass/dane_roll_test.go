package pass

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

const publishing = "mode: publish"

// A rollover in mode publish: the first publication, a steady state, a key that takes over, the old record gone, and another next key. At
// each moment the served key is in every set that a sender may have cached.
func TestRollover(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{"ec256"}, {"ec256", "rsa2048"}} {
		t.Run(strings.Join(keys, "+"), func(t *testing.T) {
			t.Parallel()
			h := newDANEHost(t, publishing, lab.Options{Keys: keys})
			h.pass(report.CodeOK, renew)
			watch := h.watchI4()
			h.steady()
			first := h.remembered().Keys[bundle.EC256].Current
			if got := h.published(); len(got) != 2*len(keys) {
				t.Fatalf("in steady state the zone has %q", got)
			}
			for range 2 {
				before := h.remembered()
				h.pass(report.CodeOK, Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}})
				for _, key := range keys {
					roll := h.remembered().Keys[bundle.KeyType(key)]
					if want := before.Keys[bundle.KeyType(key)].Next; roll.Current != want {
						t.Fatalf("%s: a roll from the steady state has to wait for nothing; the key is %s, want %s: %+v", key, roll.Current, want, roll)
					}
				}
				h.steady()
			}
			if got := h.published(); len(got) != 2*len(keys) || h.remembered().Keys[bundle.EC256].Current == first {
				t.Errorf("after two rolls the zone has %q", got)
			}
			watch()
		})
	}
}

// Renewals with the current key go on while a key change waits, and need nothing of DNS.
func TestRenewalsGoOnDuringAHold(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.edit("hold: 0s", "hold: 24h")
	h.pass(report.CodeOK, renew)
	h.publish(h.record()) // senders may hold it without the next key
	h.pass(report.CodeOK, renew)
	h.edit("mode: check", publishing)
	h.until(patience, "the records are added", func(report.Certificate) bool { return len(h.published()) == 2 })
	before, orders := h.spki(), h.placed()
	c := h.pass(report.CodeTemporary, newKey)
	if h.spki() != before || h.placed() != orders || c.Error.Kind != kindDANE || c.TLSA.Until == nil && c.TLSA.WaitingFor == "" {
		t.Fatalf("%+v, %+v", c.Error, c.TLSA)
	}
	if h.pass(report.CodeOK, atOnce); h.spki() != before || h.placed() != orders+1 {
		t.Errorf("%d orders", h.placed()-orders)
	}
	if roll := h.remembered().Keys[bundle.EC256]; roll.Asked == nil {
		t.Errorf("the roll was forgotten: %+v", roll)
	}
}

// A compromised key is replaced by the next one, its record goes without a grace, and it is never used again.
func TestEmergency(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	leaked := h.record()
	h.pass(report.CodeOK, Options{Roll: &dane.Asked{At: time.Now(), Reason: "it has leaked", Emergency: true}})
	if h.record() == leaked || slices.Contains(h.published(), leaked) {
		t.Fatalf("%s is in service, and the zone has %q; leaked: %s", h.record(), h.published(), leaked)
	}
}

// A service that refuses the records is not asked again every minute, for as long as nobody repairs it.
func TestServiceThatRefuses(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.edit("mode: check", publishing)
	h.edit("ttl: 2s", "ttl: 1h")
	h.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused})
	c := h.pass(report.CodeOK, byDaemon)
	if pause := time.Until(c.NextTLSA); len(h.published()) > 0 || !strings.Contains(strings.Join(c.Warnings, "\n"), "could not be added") || pause < 4*time.Minute {
		t.Errorf("the next pass is in %v: %q", pause, c.Warnings)
	}
	h.Primary.SetFaults(nameserver.Faults{})
	if c := h.pass(report.CodeOK, byDaemon); len(h.published()) != 2 || time.Until(c.NextTLSA) > time.Minute {
		t.Errorf("the next pass is at %v, the zone has %q", c.NextTLSA, h.published())
	}
}

// Turning publication off removes our records before the key is free.
func TestTurningOff(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	h.edit(publishing, `mode: "off"`)
	began := time.Now()
	c := h.pass(report.CodeOK, byDaemon)
	if got := h.published(); len(got) > 0 {
		t.Fatalf("the zone has %q: %+v", got, c.Warnings)
	}
	h.pass(report.CodeOK, newKey) // every sender knows the next key
	before := h.spki()
	free := func() bool { // never before senders have forgotten the records, however long a pass takes
		c := h.run(t.Context(), newKey)
		if c.Code != report.CodeOK {
			if h.spki() != before || c.Error.Kind != kindDANE {
				t.Fatalf("%+v, %+v", c.Error, c.TLSA)
			}
			return false
		}
		if waited := time.Since(began); waited < dane.Hold(h.ttl, dane.Settings{}) {
			t.Errorf("the key was free after %s: %+v", waited, c.TLSA)
		}
		return true
	}
	if !free() {
		h.until(patience, "the key is free", func(report.Certificate) bool { return free() })
	}
	if h.spki() == before {
		t.Error("the key is the same")
	}
}

// Records of others are never touched, neither beside ours nor in the place of ours, until the operator agrees.
func TestRecordsOfOthersStay(t *testing.T) {
	t.Parallel()
	for _, adopt := range []bool{false, true} {
		h := newDANEHost(t, "mode: check", lab.Options{})
		other := "3 1 1 " + strings.Repeat("ab", 32)
		h.pass(report.CodeOK, renew)
		h.publish(other, h.record()) // by hand
		h.edit("mode: check", publishing)
		h.steady()
		byHand := h.record()
		if adopt {
			h.pass(report.CodeOK, Options{Publish: true, Adopt: true})
		}
		h.pass(report.CodeOK, Options{Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}})
		h.steady()
		if got := h.published(); !slices.Contains(got, other) || slices.Contains(got, byHand) == adopt {
			t.Errorf("adopted %v: the zone has %q; %q is somebody else's, and %q was made by hand", adopt, got, other, byHand)
		}
	}
}

// steady makes passes until the keys are in steady state.
func (h *daneHost) steady() {
	h.t.Helper()
	h.until(patience, "steady state", func(c report.Certificate) bool { return c.TLSA != nil && c.TLSA.State == string(dane.Steady) })
}

// published are the records of the zone.
func (h *daneHost) published() (list []string) {
	h.t.Helper()
	set := h.want().Resolver().LookTLSA(h.t.Context(), h.owner())
	if set.Err != nil && !set.Denied() {
		h.t.Fatal(set.Err)
	}
	for _, r := range set.Records {
		list = append(list, r.String())
	}
	return list
}

// A CA that refuses the current key begins a roll at once, with the next key, which waits for nothing.
func TestCARefusesTheKey(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	bad := h.spki()
	h.caRefuses(bad)
	next := h.remembered().Keys[bundle.EC256].Next
	c := h.pass(report.CodeOK, atOnce)
	if h.spki() != next {
		t.Errorf("the key is %s, want %s: %+v, %q", h.spki(), next, c.Error, c.Warnings)
	}
}

// Without records, nothing has to be waited for: the CA gets another key in the same pass.
func TestCARefusesTheKeyWithoutRecords(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "", lab.Options{})
	h.pass(report.CodeOK, renew)
	bad := h.spki()
	h.caRefuses(bad)
	c := h.pass(report.CodeOK, atOnce)
	if h.spki() == bad || !strings.Contains(strings.Join(c.Warnings, "\n"), "the CA refuses to certify the current ec256 key: mxcert makes another") {
		t.Errorf("%+v, %q", c.Error, c.Warnings)
	}
	h.caRefuses("")
	orders := h.placed()
	if c := h.run(t.Context(), atOnce); c.Code == report.CodeOK || h.placed() != orders+2 {
		t.Errorf("a CA that takes no key: %d orders, %+v", h.placed()-orders, c.Error)
	}
}

// caRefuses makes the CA refuse to certify a key; "" for all.
func (h *daneHost) caRefuses(bad string) {
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if ca.EndpointOf(r.URL.Path) == ca.Finalize && (bad == "" || keyOfCSR(body) == bad) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:badPublicKey","detail":"the key is on a list"}`)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
}

// keyOfCSR is the key in the signed request of an order's end.
func keyOfCSR(body []byte) string {
	var jws struct{ Payload string }
	var request struct {
		CSR string `json:"csr"`
	}
	if json.Unmarshal(body, &jws) != nil {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(jws.Payload)
	if err != nil || json.Unmarshal(payload, &request) != nil {
		return ""
	}
	der, err := base64.RawURLEncoding.DecodeString(request.CSR)
	if err != nil {
		return ""
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return ""
	}
	return bundle.SPKIOf(csr.RawSubjectPublicKeyInfo)
}

package pass

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/ocsp"
)

// responder is an OCSP responder of the lab's CA.
type responder struct {
	*httptest.Server

	mu     sync.Mutex
	ca     *ca.CA
	down   bool
	status int
	this   time.Time // of the responses; zero: now
	life   time.Duration
	asked  int
}

// newResponder starts one that says good, before its CA is there.
func newResponder(t *testing.T) *responder {
	r := &responder{status: xocsp.Good, life: time.Hour}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *responder) set(change func(*responder)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *responder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.down || request.Method != http.MethodPost { // GET has its test beside Fetch
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	body, _ := io.ReadAll(request.Body)
	question, err := xocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	issuer, key := r.ca.Issuer()
	this := r.this
	if this.IsZero() {
		this = time.Now()
	}
	der, err := xocsp.CreateResponse(issuer, issuer, xocsp.Response{Status: r.status, SerialNumber: question.SerialNumber, ThisUpdate: this, NextUpdate: this.Add(r.life), RevokedAt: this}, key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(der)
}

// stapledHost has a target with an OCSP response.
func stapledHost(t *testing.T, named bool) (*host, *responder) {
	t.Helper()
	return staplingHost(t, named, "ocsp.der")
}

// staplingHost is the same with a server that sends the response from another file; "" for one that sends none.
func staplingHost(t *testing.T, named bool, staple string) (*host, *responder) {
	t.Helper()
	r := newResponder(t)
	options := ca.Options{RSA: true}
	if named {
		options.OCSP = r.URL
	}
	h := newHost(t, lab.Options{CA: options, Staple: staple}, lab.ConfigOptions{})
	r.set(func(r *responder) { r.ca = h.CA })
	h.edit("- files: {", `- exim: {unit: "", unchecked: true, ocsp: "`+h.Path("tls", "ocsp.der")+`", `)
	return h, r
}

// stapled is the certificate that the response in place is about: "none" without one. It must be the one in place, whatever happened.
func (h *host) stapled() string {
	h.t.Helper()
	der, err := os.ReadFile(h.Path("tls", "ocsp.der"))
	if err != nil {
		return "none"
	}
	issuer, _ := h.CA.Issuer()
	r, err := xocsp.ParseResponse(der, issuer)
	h.check(err)
	if serial := r.SerialNumber; !strings.HasSuffix(h.served(), serial.Text(16)) {
		h.t.Fatalf("the response is about %x, and the certificate in place is %s", serial, h.served())
	}
	return h.served()
}

// due makes the next request due.
func (h *host) due() {
	h.t.Helper()
	s := readStaples(h.lineage())
	for i := range s.List {
		s.List[i].NextTry = time.Time{}
	}
	h.check(h.lineage().SaveStaples(s))
}

func TestStaple(t *testing.T) {
	t.Parallel()
	h, r := stapledHost(t, true)
	h.pass(report.CodeOK, renew)
	first := h.served()
	if h.stapled() != first {
		t.Fatal("the certificate has no response")
	}
	now := h.look(report.CodeOK)
	if sent := now.Endpoints[0].OCSP; sent != "good" || len(now.Warnings) > 0 {
		t.Errorf("the server sends the response, and status says %q, %q", sent, now.Warnings)
	}
	told := now.Keys[0].OCSP
	if told == nil || told.Status != "good" || told.Error != "" || told.NextUpdate == nil || told.NextRequest == nil || !told.NextRequest.Before(*told.NextUpdate) {
		t.Errorf("status says %+v", told)
	}

	// A pass before the time asks nobody. One after it puts the newer response in place, and touches nothing else.
	asked := r.asked
	h.pass(report.CodeOK, byDaemon)
	if r.asked != asked {
		t.Error("the responder was asked although the response is fresh")
	}
	before := h.file("ocsp.der")
	r.set(func(r *responder) { r.this = time.Now().Add(time.Minute) })
	h.due()
	if c := h.pass(report.CodeOK, byDaemon); c.Changed || c.NextOCSP.IsZero() {
		t.Errorf("a new response counts as a changed certificate, or nothing is next: %+v", c)
	}
	if h.file("ocsp.der") == before || h.served() != first {
		t.Error("the newer response is not in place")
	}

	// The responder is down: the response stays, and costs no pass.
	r.set(func(r *responder) { r.down = true })
	h.due()
	h.pass(report.CodeOK, byDaemon)
	if h.stapled() != first {
		t.Error("the response went away")
	}
	if told := h.look(report.CodeOK).Keys[0].OCSP; told.Error == "" || told.Kind != ocsp.KindUnavailable || told.Hint == "" {
		t.Errorf("status says %+v", told)
	}

	// A renewal meanwhile waits for its response, then goes on.
	c := h.pass(report.CodeNotInService, atOnce)
	if c.Error.Kind != ocsp.KindUnavailable || !strings.Contains(c.Error.Message, "the one in place stays") || h.stapled() != first {
		t.Errorf("%+v, in place is %s", c.Error, h.served())
	}
	r.set(func(r *responder) { r.down, r.status = false, xocsp.Unknown })
	h.due()
	if c := h.pass(report.CodeNotInService, byDaemon); c.Error.Kind != ocsp.KindUnknown || h.stapled() != first {
		t.Errorf("%+v, in place is %s", c.Error, h.served())
	}
	r.set(func(r *responder) { r.status, r.this = xocsp.Good, time.Time{} })
	h.due()
	h.pass(report.CodeOK, byDaemon)
	second := h.served()
	if second == first || h.stapled() != second || h.placed() != 2 {
		t.Errorf("in place is %s after %d orders", second, h.placed())
	}

	// The operator goes back, and forward again.
	h.pass(report.CodeOK, rollback)
	if h.stapled() != first {
		t.Errorf("after the rollback, the response is about %s", h.stapled())
	}
	h.pass(report.CodeOK, deployOnly)
	if h.stapled() != second {
		t.Errorf("after the deployment, the response is about %s", h.stapled())
	}

	// The CA has revoked the certificate: senders get the old response, and a person is told.
	r.set(func(r *responder) { r.status = xocsp.Revoked })
	h.due()
	if c := h.pass(report.CodeFailed, byDaemon); c.Error.Kind != ocsp.KindRevoked || c.Stage != report.Served || h.stapled() != second {
		t.Errorf("%+v %s", c.Error, c.Stage)
	}
	if told := h.look(report.CodeOK).Keys[0].OCSP; told.Status != "revoked" {
		t.Errorf("status says %+v", told)
	}
}

// TestStapleExpires: a responder that is down for longer than the response lives.
func TestStapleExpires(t *testing.T) {
	t.Parallel()
	h, r := stapledHost(t, true)
	expires := time.Now().Add(time.Minute)
	r.set(func(r *responder) { r.this, r.life = expires.Add(-6*time.Minute), 6*time.Minute }) // it is to go 45 s before it expires
	h.pass(report.CodeOK, renew)
	first := h.served()
	r.set(func(r *responder) { r.down = true })
	s := readStaples(h.lineage())
	s.List[0].NextTry = time.Now().Add(time.Hour)
	h.check(h.lineage().SaveStaples(s))
	if next := h.pass(report.CodeOK, byDaemon).NextOCSP; expires.Sub(next) < 44*time.Second || expires.Sub(next) > 47*time.Second {
		t.Errorf("the next pass is %s before the response expires, too late to take it away", expires.Sub(next))
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		h.due()
		if c := h.pass(report.CodeOK, byDaemon); h.stapled() == "none" {
			if len(c.Warnings) == 0 || h.served() != first {
				t.Errorf("nobody is told: %+v", c)
			}
			if !time.Now().Before(expires) {
				t.Error("the response was still there when it expired")
			}
			h.look(report.CodeOK)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the expired response stays")
		}
	}
	r.set(func(r *responder) { r.down, r.this, r.life = false, time.Time{}, time.Hour })
	h.due()
	h.pass(report.CodeOK, byDaemon)
	if h.stapled() != first {
		t.Error("the new response is not in place")
	}
}

// TestStapleWithoutResponder: the target is refused, with the line to remove.
func TestStapleWithoutResponder(t *testing.T) {
	t.Parallel()
	h, r := stapledHost(t, false)
	c := h.pass(report.CodeNotInService, renew)
	if c.Error.Kind != ocsp.KindNoResponder || c.Stage != report.Issued || !strings.Contains(c.Error.Hint, "remove `ocsp: "+h.Path("tls", "ocsp.der")+"`") {
		t.Errorf("%+v", c.Error)
	}
	if _, err := os.Stat(h.Path("tls", "mx.crt")); err == nil || r.asked != 0 {
		t.Error("it was deployed")
	}
	h.edit(`ocsp: "`+h.Path("tls", "ocsp.der")+`", `, "")
	h.pass(report.CodeOK, renew)
	if h.placed() != 1 {
		t.Errorf("%d orders", h.placed())
	}
}

// TestStapleOfFirstCertificate: the responder is down at the first deployment, when there is no certificate that could stay.
func TestStapleOfFirstCertificate(t *testing.T) {
	t.Parallel()
	h, r := stapledHost(t, true)
	r.set(func(r *responder) { r.down = true })
	c := h.pass(report.CodeOK, renew)
	if h.stapled() != "none" || !strings.Contains(strings.Join(c.Warnings, " "), "without an OCSP response") {
		t.Errorf("%+v", c.Warnings)
	}
	r.set(func(r *responder) { r.down = false })
	h.pass(report.CodeOK, renew)
	if h.stapled() != h.served() {
		t.Error("the response is not in place")
	}
}

func TestStapleTimes(t *testing.T) {
	now := time.Now()
	r := &ocsp.Response{ThisUpdate: now, NextUpdate: now.Add(7 * 24 * time.Hour)}
	if at := refreshAt(r, now).Sub(now); at < 84*time.Hour || at > 94*time.Hour {
		t.Errorf("a fresh response is fetched again after %s", at)
	}
	if at := refreshAt(r, now.Add(6*24*time.Hour)).Sub(now); at < 6*24*time.Hour || at >= 7*24*time.Hour {
		t.Errorf("an old response is fetched again after %s", at)
	}
	for failures, want := range map[int]time.Duration{1: firstPause, 2: 2 * firstPause, 3: 4 * firstPause, 50: longestPause} {
		if got := tryAgainAt(failures, nil, now).Sub(now); got < want || got > want+want/10 {
			t.Errorf("after %d failures it is tried again after %s", failures, got)
		}
	}
	short := &ocsp.Response{ThisUpdate: now, NextUpdate: now.Add(time.Minute)}
	if got := tryAgainAt(9, short, now.Add(50*time.Second)).Sub(now); got > time.Minute {
		t.Errorf("the next try comes %s after the response was made, which has expired by then", got)
	}
}

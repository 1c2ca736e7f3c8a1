package pass

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// secondAddress gives the name another address, where another server answers with a pair of files.
func (h *daneHost) secondAddress(certificate, privateKey string) {
	h.t.Helper()
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	server, err := smtpd.Start(smtpd.Options{Listen: net.JoinHostPort("127.0.0.2", port), Pairs: []smtpd.Pair{{Certificate: certificate, PrivateKey: privateKey}}})
	h.check(err)
	h.t.Cleanup(func() { _ = server.Close() })
	h.check(h.World.Add("mx.example.org. A 127.0.0.2"))
}

// unprobed makes a pass that must not publish anything, and says why.
func (h *daneHost) unprobed() string {
	h.t.Helper()
	c := h.pass(report.CodeOK, renew)
	if got := h.published(); len(got) > 0 {
		h.t.Fatalf("the zone has %q", got)
	}
	if c.TLSA == nil || c.TLSA.State != string(dane.Unprobed) {
		h.t.Fatalf("%+v", c.TLSA)
	}
	return c.TLSA.WaitingFor + "\n" + strings.Join(c.Warnings, "\n")
}

// copyPair copies the deployed pair.
func (h *daneHost) copyPair(certificate, privateKey string) {
	h.t.Helper()
	h.check(os.WriteFile(certificate, []byte(h.file("mx.crt")), 0o600))
	h.check(os.WriteFile(privateKey, []byte(h.file("mx.key")), 0o600))
}

// The first records at a name make senders refuse every key that they lack. So nothing is published while another address of the name serves
// a foreign key; when it serves ours, the records are added in one step.
func TestFirstPublicationAsksEveryAddress(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	crt, key := h.Path("second.crt"), h.Path("second.key")
	foreign := h.selfSigned("mx.example.org", crt, key)
	h.secondAddress(crt, key)
	if why := h.unprobed(); !strings.Contains(why, strings.Fields(foreign)[3]) {
		t.Errorf("it says %q, without %s", why, foreign)
	}
	h.copyPair(crt, key)
	h.steady()
	if got := h.published(); len(got) != 2 || !slices.Contains(got, h.record()) {
		t.Errorf("the zone has %q", got)
	}
}

// If another address still serves a key that was ours, the first records name it, too. Its record goes once the address serves the current key.
func TestFirstPublicationNamesAnOldKey(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	crt, key, old := h.Path("second.crt"), h.Path("second.key"), h.record()
	h.copyPair(crt, key)
	h.pass(report.CodeOK, newKey)
	h.secondAddress(crt, key)
	h.edit("mode: check", publishing)
	h.pass(report.CodeOK, byDaemon)
	if got := h.published(); !slices.Contains(got, old) || !slices.Contains(got, h.record()) {
		t.Fatalf("the zone has %q, without %s or %s", got, old, h.record())
	}
	h.copyPair(crt, key)
	h.steady()
	if got := h.published(); len(got) != 2 || slices.Contains(got, old) || !slices.Contains(got, h.record()) {
		t.Errorf("the zone has %q; %s is not served any more", got, old)
	}
}

// An address that does not answer may serve anything.
func TestFirstPublicationWaitsForASilentAddress(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.check(h.World.Add("mx.example.org. AAAA 2001:db8::1"))
	if why := h.unprobed(); !strings.Contains(why, "2001:db8::1") {
		t.Errorf("it says %q", why)
	}
	h.check(h.World.Remove("mx.example.org.", 28))
	h.steady()
	if got := h.published(); len(got) != 2 {
		t.Errorf("the zone has %q", got)
	}
}

package pass

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// secondCA starts another CA and puts it into the configuration behind the lab's own.
func (h *host) secondCA(options ca.Options) *ca.CA {
	h.t.Helper()
	second := h.AddCA(h.t, options)
	h.edit(fmt.Sprintf("directory: %q", h.CA.DirectoryURL()), fmt.Sprintf("directory: [%q, %q]", h.CA.DirectoryURL(), second.DirectoryURL()))
	return second
}

// The next CA of the list gives the certificate when the first one fails at any step, with the same key; the breaker then
// keeps the first CA in peace, over processes, until an order finds it well again.
func TestNextCA(t *testing.T) {
	for _, endpoint := range []ca.Endpoint{ca.Directory, ca.NewNonce, ca.NewAccount, ca.NewOrder, ca.Authz, ca.Challenge, ca.Finalize} {
		t.Run(string(endpoint), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			second := h.secondCA(ca.Options{})
			h.CA.SetWrap(ca.OutOfOrder(endpoint))
			c := h.pass(report.CodeOK, renew)
			if n := len(second.Issued()); n != 1 || c.Stage != "served" {
				t.Fatalf("the second CA issued %d, stage %s", n, c.Stage)
			}
			warned := strings.Join(c.Warnings, "\n")
			if !strings.Contains(warned, "because another CA did not issue it") || !strings.Contains(warned, "answered 500") {
				t.Errorf("warnings: %s", warned)
			}
			asked := func() int { return h.CA.Count() - h.CA.Count(ca.Directory) } // the look before an order reads that
			before := asked()
			again := h.pass(report.CodeOK, atOnce)
			if n := asked() - before; n > 0 {
				t.Errorf("the CA that failed was asked %d times while its breaker is open", n)
			}
			if again.Keys[0].SPKI != c.Keys[0].SPKI || again.Keys[0].Serial == c.Keys[0].Serial {
				t.Errorf("key %s and then %s, serial %s and then %s", c.Keys[0].SPKI, again.Keys[0].SPKI, c.Keys[0].Serial, again.Keys[0].Serial)
			}
			h.CA.SetWrap(nil)
			h.closeBreaker()
			last := h.pass(report.CodeOK, atOnce)
			if len(h.CA.Issued()) != 1 || last.Keys[0].SPKI != c.Keys[0].SPKI {
				t.Errorf("the first CA, well again, issued %d", len(h.CA.Issued()))
			}
			if left := h.World.Challenges(); len(left) > 0 {
				t.Errorf("TXT records are left: %v", left)
			}
		})
	}
}

// closeBreaker lets the time of every open breaker pass.
func (h *host) closeBreaker() {
	h.t.Helper()
	store := h.store()
	directory := h.CA.DirectoryURL()
	err := store.ChangeUsage(h.t.Context(), directory, func(u *state.Usage) error {
		if u.Breaker.Failures != 1 {
			h.t.Errorf("the breaker of %s: %+v", directory, u.Breaker)
		}
		u.Breaker.Until = u.Breaker.Until.AddDate(0, 0, -1)
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// What would fail at every CA is not tried at the next one.
func TestNoNextCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	second := h.secondCA(ca.Options{})
	h.edit(fmt.Sprintf("DNSUPDATE_TSIG_KEY: %q", lab.KeyName), `DNSUPDATE_TSIG_KEY: "other."`)
	c := h.pass(report.CodeFailed, renew)
	if c.Error.Stage != "dns" || second.Count(ca.NewOrder) != 0 {
		t.Errorf("%+v, %d orders at the second CA", c.Error, second.Count(ca.NewOrder))
	}
}

// When every CA fails, each is named, and the try is over for now.
func TestAllCAsFail(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	second := h.secondCA(ca.Options{})
	h.CA.SetWrap(ca.OutOfOrder(ca.NewOrder))
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	c := h.pass(report.CodeTemporary, renew)
	if !strings.Contains(c.Error.Message, "out of order") || !strings.Contains(c.Error.Message, "cannot be reached") {
		t.Errorf("%+v", c.Error)
	}
	// A person may try all of them again at once; the daemon waits, and says for whom.
	h.CA.SetWrap(nil)
	if c := h.pass(report.CodeOK, renew); c.Stage != "served" || len(h.CA.Issued()) != 1 {
		t.Errorf("%+v", c)
	}
}

// An order that the first CA has finalized is paid for: it is waited for, not bought again elsewhere, as long as what is in
// service is good.
func TestPaidOrderIsNotBoughtAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	second := h.secondCA(ca.Options{})
	h.pass(report.CodeOK, renew)
	h.CA.SetWrap(ca.OutOfOrder(ca.Certificate))
	c := h.pass(report.CodeTemporary, atOnce)
	if len(second.Issued()) != 0 || c.Error.Stage != "download" || c.Stage != "served" && c.Stage != "waiting" {
		t.Errorf("%d at the second CA; %+v %+v", len(second.Issued()), c.Stage, c.Error)
	}
	h.CA.SetWrap(nil)
	h.pass(report.CodeOK, renew)
	if n := h.CA.Count(ca.NewOrder); n != 2 || len(second.Issued()) != 0 {
		t.Errorf("%d orders", n)
	}
}

// A binding without a CA's name is for those that demand one; a CA that does not know the profile is asked without.
func TestBindingAndProfileOfOneCA(t *testing.T) {
	t.Parallel()
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	options := lab.Options{}
	options.CA.Profiles = map[string]time.Duration{"shortlived": 160 * time.Hour}
	h := newHost(t, options, lab.ConfigOptions{})
	second := h.secondCA(ca.Options{EAB: map[string]string{"kid-1": key}})
	h.put("eab", key)
	h.edit("  agree_tos: true\n", fmt.Sprintf("  agree_tos: true\n  profile: shortlived\n  eab: {kid: kid-1, hmac_key: %q}\n", "file:"+filepath.Join(h.Directory, "eab")))
	h.pass(report.CodeOK, renew)
	if len(h.CA.Issued()) != 1 {
		t.Fatal("the first CA, which wants no binding, gave none")
	}
	h.CA.SetWrap(ca.OutOfOrder(ca.NewOrder))
	c := h.pass(report.CodeOK, atOnce)
	if len(second.Issued()) != 1 {
		t.Fatalf("%+v", c)
	}
}

// The chain that is asked for is taken; one that is not offered is said, and costs nothing but a warning.
func TestPreferredChain(t *testing.T) {
	t.Parallel()
	options := lab.Options{}
	options.CA.AlternateRoots = 2
	h := newHost(t, options, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew)
	if len(first.Warnings) != 0 {
		t.Fatalf("%q", first.Warnings)
	}
	h.edit("  agree_tos: true\n", "  agree_tos: true\n  preferred_chain: No Such Root\n")
	c := h.pass(report.CodeOK, atOnce)
	warned := strings.Join(c.Warnings, "\n")
	if !strings.Contains(warned, `offers no chain to "No Such Root"`) {
		t.Fatalf("warnings: %q", warned)
	}
	_, offered, _ := strings.Cut(warned, "only to: ")
	roots := strings.Split(strings.TrimSuffix(offered, "; its default chain is used"), ", ")
	if len(roots) != 3 {
		t.Fatalf("offered: %q", offered)
	}
	h.edit("preferred_chain: No Such Root", "preferred_chain: "+roots[2])
	c = h.pass(report.CodeOK, atOnce)
	if len(c.Warnings) != 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if top := h.lastIssuer(); top != roots[2] {
		t.Errorf("the chain leads to %q, want %q", top, roots[2])
	}
}

// lastIssuer is the issuer of the last certificate in the deployed chain.
func (h *host) lastIssuer() string {
	h.t.Helper()
	text, err := os.ReadFile(h.Path("tls", "mx.crt"))
	if err != nil {
		h.t.Fatal(err)
	}
	var issuer string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			h.t.Fatal(err)
		}
		issuer = c.Issuer.CommonName
	}
	return issuer
}

package starttls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
)

// ids lists the findings as "severity:id", sorted, and checks that they are fit to show.
func ids(t *testing.T, findings []finding.Finding) []string {
	t.Helper()
	var list []string
	for _, f := range findings {
		list = append(list, string(f.Severity)+":"+f.ID)
		text := f.Message + f.Hint
		if f.Message == "" || f.Hint == "" || len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
			t.Errorf("not fit to show: %q, %q", f.Message, f.Hint)
		}
	}
	slices.Sort(list)
	return list
}

func validUntil(d time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(d) }
}

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func TestCheckChain(t *testing.T) {
	const day = 24 * time.Hour
	root := ca("Root", nil)
	inter := ca("Intermediate", root)
	sub := ca("Sub", inter)
	good, deep := leaf(ECDSA, inter), leaf(RSA, sub)
	other := ca("Other", nil)
	cross := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true}, other, root.key)
	oldCross := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true}, other, root.key, validUntil(-time.Minute))
	expired := leaf(ECDSA, inter, validUntil(-time.Minute))
	oldInter := ca("Old", root, validUntil(-time.Minute))
	shortInter := ca("Short", root, validUntil(30*day))
	noCA := leaf(ECDSA, inter, func(c *x509.Certificate) { c.Subject.CommonName = "no CA" })
	impostor := ca("Intermediate", other) // same name, another key
	constrained := ca("Constrained", root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
	})
	clientOnly := leaf(ECDSA, inter, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	selfMade := leaf(ECDSA, nil)
	for _, test := range []struct {
		name string
		sent []*authority
		want []string
	}{
		{"good", []*authority{good, inter}, nil},
		{"good with two", []*authority{deep, sub, inter}, nil},
		{"cross-signed", []*authority{deep, sub, inter, cross}, nil},
		{"nothing", nil, []string{"error:no-certificate"}},
		{"missing intermediate", []*authority{good}, []string{"error:chain-incomplete"}},
		{"missing in the middle", []*authority{deep, inter}, []string{"error:chain-incomplete", "warning:chain-unrelated"}},
		{"the middle last", []*authority{deep, inter, sub}, []string{"warning:chain-order"}},
		{"leaf last", []*authority{inter, good}, []string{"error:certificate-host-mismatch", "error:chain-order"}},
		{"leaf twice", []*authority{good, good, inter}, []string{"warning:chain-duplicate"}},
		{"intermediate twice", []*authority{good, inter, inter}, []string{"warning:chain-duplicate"}},
		{"with root", []*authority{good, inter, root}, []string{"warning:chain-root-sent"}},
		{"root in between", []*authority{good, root, inter}, []string{"warning:chain-order", "warning:chain-root-sent"}},
		{"unrelated", []*authority{good, inter, shortInter}, []string{"warning:chain-expires-early", "warning:chain-unrelated"}},
		{"impostor", []*authority{good, impostor}, []string{"error:chain-incomplete", "warning:chain-unrelated"}},
		{"expired", []*authority{expired, inter}, []string{"error:certificate-expired"}},
		{"expired intermediate", []*authority{leaf(ECDSA, oldInter), oldInter}, []string{"error:certificate-expired"}},
		{"expired intermediate of another chain", []*authority{good, inter, oldInter}, []string{"warning:certificate-expired", "warning:chain-unrelated"}},
		{"expired cross-signed root", []*authority{good, inter, oldCross}, []string{"warning:certificate-expired"}},
		{"expired, and an expired one beside", []*authority{expired, inter, oldCross}, []string{"error:certificate-expired", "warning:certificate-expired"}},
		{"intermediate expires early", []*authority{leaf(ECDSA, shortInter), shortInter}, []string{"warning:chain-expires-early"}},
		{"not yet valid", []*authority{leaf(ECDSA, inter, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(day) }), inter}, []string{"error:certificate-not-yet-valid"}},
		{"issuer is no CA", []*authority{leaf(ECDSA, noCA), noCA, inter}, []string{"error:chain-invalid"}},
		{"name constraints", []*authority{leaf(ECDSA, constrained), constrained}, []string{"error:chain-invalid"}},
		{"client certificate", []*authority{clientOnly, inter}, []string{"error:chain-invalid"}},
		{"self-signed", []*authority{selfMade}, []string{"error:certificate-self-signed"}},
		{"another name", []*authority{leaf(ECDSA, inter, named("www.example.org")), inter}, []string{"error:certificate-host-mismatch"}},
		{"no name", []*authority{leaf(ECDSA, inter, named()), inter}, []string{"error:certificate-host-mismatch"}},
		{"name in the CN only", []*authority{leaf(ECDSA, inter, named(), func(c *x509.Certificate) { c.Subject.CommonName = "mx.example.org" }), inter}, []string{"error:certificate-host-mismatch"}},
		{"hundred names", []*authority{leaf(ECDSA, inter, named(strings.Split(strings.Repeat("a.example.net,", 100)+"b.example.net", ",")...)), inter}, []string{"error:certificate-host-mismatch"}},
		{"unknown root, sent", []*authority{leaf(ECDSA, impostor), impostor, other}, []string{"error:certificate-not-trusted", "warning:chain-root-sent"}},
		{"unknown root, not sent", []*authority{leaf(ECDSA, impostor), impostor}, []string{"error:certificate-not-trusted"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(root.certificate)
			var sent []*x509.Certificate
			for _, a := range test.sent {
				sent = append(sent, a.certificate)
			}
			findings := CheckChain(sent, []string{"mx.example.org"}, roots, time.Now())
			if got := ids(t, findings); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q:\n%+v", got, test.want, findings)
			}
		})
	}
}

// TestUnknownRoot: without roots of one's own, a private CA is a warning only if everything else is right.
func TestUnknownRoot(t *testing.T) {
	root := ca("Private Root", nil)
	inter := ca("Private Intermediate", root)
	good := leaf(ECDSA, inter)
	limited := ca("Limited", root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
	})
	for _, test := range []struct {
		name string
		sent []*authority
		want []string
	}{
		{"complete", []*authority{good, inter}, []string{"warning:certificate-not-trusted"}},
		{"with root", []*authority{good, inter, root}, []string{"warning:certificate-not-trusted", "warning:chain-root-sent"}},
		{"incomplete", []*authority{good}, []string{"error:chain-incomplete"}},
		{"inconsistent", []*authority{leaf(ECDSA, limited), limited}, []string{"error:chain-invalid"}},
		{"self-signed", []*authority{leaf(RSA, nil)}, []string{"error:certificate-self-signed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent []*x509.Certificate
			for _, a := range test.sent {
				sent = append(sent, a.certificate)
			}
			if got := ids(t, CheckChain(sent, nil, nil, time.Now())); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSelfSignedThatIsTrusted(t *testing.T) {
	own := leaf(ECDSA, nil)
	roots := x509.NewCertPool()
	roots.AddCert(own.certificate)
	if findings := CheckChain([]*x509.Certificate{own.certificate}, []string{"mx.example.org"}, roots, time.Now()); len(findings) != 0 {
		t.Errorf("%+v", findings)
	}
}

func TestNamesAsInRFC9525(t *testing.T) {
	root := ca("Root", nil)
	roots := x509.NewCertPool()
	roots.AddCert(root.certificate)
	for _, test := range []struct {
		san, name string
		ok        bool
	}{
		{"mx.example.org", "MX.Example.ORG", true},
		{"mx.example.org", "mx.example.org.", true},
		{"*.example.org", "mx.example.org", true},
		{"*.example.org", "a.mx.example.org", false},
		{"*.example.org", "example.org", false},
		{"m*.example.org", "mx.example.org", false},
		{"mx.*.org", "mx.example.org", false},
		{"xn--mller-kva.example.org", "xn--mller-kva.example.org", true},
	} {
		certificate := leaf(ECDSA, root, named(test.san)).certificate
		findings := CheckChain([]*x509.Certificate{certificate, root.certificate}, []string{test.name}, roots, time.Now())
		mismatch := slices.ContainsFunc(findings, func(f finding.Finding) bool { return f.ID == "certificate-host-mismatch" })
		if mismatch == test.ok {
			t.Errorf("%s for %s: %+v", test.san, test.name, findings)
		}
	}
	byAddress := leaf(ECDSA, root, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1")} }).certificate
	if findings := CheckChain([]*x509.Certificate{byAddress}, []string{"192.0.2.1", "mx.example.org"}, roots, time.Now()); len(findings) != 0 {
		t.Errorf("%+v", findings)
	}
}

func TestChainOfStrangersIsBounded(t *testing.T) {
	root := ca("Root", nil)
	sent := []*x509.Certificate{leaf(ECDSA, root).certificate}
	for range 300 {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: "Root"}}
		sent = append(sent, sign(template, root, root.key).certificate)
	}
	start := time.Now()
	findings := CheckChain(sent, nil, nil, time.Now())
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if len(findings) > maxChain+5 || findings[0].ID != "chain-too-long" {
		t.Errorf("%d findings: %+v", len(findings), findings)
	}
}

func ExampleCheckChain() {
	w := theWorld()
	for _, f := range CheckChain([]*x509.Certificate{w.ec.certificate}, []string{"mx.example.com"}, nil, time.Now()) {
		fmt.Println(f.Severity, f.ID)
	}
	// Output:
	// error certificate-host-mismatch
	// error chain-incomplete
}

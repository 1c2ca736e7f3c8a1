package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"github.com/go-acme/lego/v4/certcrypto"

	"mxcert/cmd/mxcert-lab/ca"
)

func start(t *testing.T, opts ca.Options) *ca.CA {
	t.Helper()
	c, err := ca.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func httpClient(t *testing.T, c *ca.CA) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.HTTPSRoots()) {
		t.Fatal("the HTTPS roots are not PEM")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// register makes an account and gives the core that acts for it.
func register(t *testing.T, c *ca.CA) *api.Core {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	core, err := api.New(httpClient(t, c), "mxcert-lab-test", c.DirectoryURL(), "", key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := core.Accounts.New(acme.Account{TermsOfServiceAgreed: true})
	if err != nil {
		t.Fatal(err)
	}
	core, err = api.New(httpClient(t, c), "mxcert-lab-test", c.DirectoryURL(), account.Location, key)
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// issue takes an order from its beginning to the PEM chain.
func issue(t *testing.T, core *api.Core, opts *api.OrderOptions, names ...string) []*x509.Certificate {
	t.Helper()
	order, err := core.Orders.NewWithOptions(names, opts)
	if err != nil {
		t.Fatal(err)
	}
	validate(t, core, order)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	finalize(t, core, order, key, names)
	order = await(t, core, order.Location, acme.StatusValid)
	chain, _, err := core.Certificates.Get(order.Certificate, true)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, chain)
}

func validate(t *testing.T, core *api.Core, order acme.ExtendedOrder) {
	t.Helper()
	for _, url := range order.Authorizations {
		authz, err := core.Authorizations.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		for _, challenge := range authz.Challenges {
			if challenge.Type == "dns-01" && authz.Status == acme.StatusPending {
				if _, err := core.Challenges.New(challenge.URL); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	await(t, core, order.Location, acme.StatusReady)
}

func finalize(t *testing.T, core *api.Core, order acme.ExtendedOrder, key crypto.Signer, names []string) {
	t.Helper()
	csr, err := certcrypto.CreateCSR(key, certcrypto.CSROptions{SAN: names})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := core.Orders.UpdateForCSR(order.Finalize, csr); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, core *api.Core, url, status string) acme.ExtendedOrder {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		order, err := core.Orders.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if order.Status == status {
			order.Location = url
			return order
		}
		if order.Status == acme.StatusInvalid || time.Now().After(deadline) {
			t.Fatalf("the order is %s instead of %s: %v", order.Status, status, order.Error)
		}
	}
}

func parse(t *testing.T, chain []byte) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, certificate)
	}
	return all
}

func TestIssue(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true})
	chain := issue(t, register(t, c), nil, "mx.example.org", "host7.example.org")
	if len(chain) != 2 {
		t.Fatalf("%d certificates in the chain, want leaf and one intermediate", len(chain))
	}
	if got := chain[0].NotAfter.Sub(chain[0].NotBefore).Round(time.Minute); got != 90*24*time.Hour {
		t.Errorf("the certificate lives %s, want 90 days", got)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Roots())
	intermediates.AddCert(chain[1])
	for _, name := range []string{"mx.example.org", "host7.example.org"} {
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if issued := c.Issued(); len(issued) != 1 || !issued[0].Equal(chain[0]) {
		t.Errorf("the CA tells of %d certificates, want the one that it issued", len(issued))
	}
}

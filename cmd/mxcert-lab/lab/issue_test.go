package lab_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/smtp"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"github.com/go-acme/lego/v4/certcrypto"
	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/lab"
)

// TestTheWholeWay issues a certificate as a client would, with what the lab's files say, puts it where the SMTP server
// reads it, and sees it served.
func TestTheWholeWay(t *testing.T) {
	l := lab.New(t, lab.Options{})
	names := []string{"mx.example.org", "host7.example.org"}
	core := client(t, l)
	order, err := core.Orders.New(names)
	if err != nil {
		t.Fatal(err)
	}
	var challenges []string
	records := map[string]string{}
	for _, url := range order.Authorizations {
		authz, err := core.Authorizations.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(authz.Challenges, func(c acme.Challenge) bool { return c.Type == "dns-01" })
		authorization, err := core.GetKeyAuthorization(authz.Challenges[i].Token)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte(authorization))
		records["_acme-challenge."+authz.Identifier.Value+"."] = base64.RawURLEncoding.EncodeToString(digest[:])
		challenges = append(challenges, authz.Challenges[i].URL)
	}
	if rcode := update(t, l, l.Primary.Address(), lab.Zone, records); rcode != dns.RcodeSuccess {
		t.Fatal(dns.RcodeToString[rcode])
	}
	for _, url := range challenges {
		if _, err := core.Challenges.New(url); err != nil {
			t.Fatal(err)
		}
	}
	await(t, core, order.Location, acme.StatusReady)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certcrypto.CreateCSR(key, certcrypto.CSROptions{SAN: names})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := core.Orders.UpdateForCSR(order.Finalize, csr); err != nil {
		t.Fatal(err)
	}
	chain, _, err := core.Certificates.Get(await(t, core, order.Location, acme.StatusValid).Certificate, true)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	deploy(t, l, chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	if leaf := served(t, l); !leaf.Equal(l.CA.Issued()[0]) {
		t.Errorf("serial %s is served, %s was issued", leaf.SerialNumber, l.CA.Issued()[0].SerialNumber)
	}
	if l.World.UpdateCount(lab.Zone) != 1 || len(l.World.Challenges()) != 2 {
		t.Errorf("%d updates, left in the zone: %v", l.World.UpdateCount(lab.Zone), l.World.Challenges())
	}
}

func client(t *testing.T, l *lab.Lab) *api.Core {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	url := ""
	for range 2 { // the second core knows the account that the first one made
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(t, l.Path("ca.pem"))}}
		t.Cleanup(transport.CloseIdleConnections)
		core, err := api.New(&http.Client{Transport: transport, Timeout: time.Minute}, "mxcert-lab-test", l.CA.DirectoryURL(), url, key)
		if err != nil {
			t.Fatal(err)
		}
		if url != "" {
			return core
		}
		account, err := core.Accounts.New(acme.Account{TermsOfServiceAgreed: true})
		if err != nil {
			t.Fatal(err)
		}
		url = account.Location
	}
	return nil
}

func await(t *testing.T, core *api.Core, url, status string) acme.Order {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		order, err := core.Orders.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if order.Status == status {
			return order.Order
		}
		if order.Status == acme.StatusInvalid || time.Now().After(deadline) {
			t.Fatalf("the order is %s: %v", order.Status, order.Error)
		}
	}
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	roots, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		t.Fatalf("%s holds no certificate", file)
	}
	return pool
}

func deploy(t *testing.T, l *lab.Lab, chain, key []byte) {
	t.Helper()
	for name, content := range map[string][]byte{"mx.crt": chain, "mx.key": key} {
		if err := os.WriteFile(l.Path("tls", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// served is the leaf that the SMTP server shows to a client that trusts the lab's roots.
func served(t *testing.T, l *lab.Lab) *x509.Certificate {
	t.Helper()
	client, err := smtp.Dial(l.SMTP.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := client.StartTLS(&tls.Config{ServerName: "mx.example.org", RootCAs: pool(t, l.Path("roots.pem"))}); err != nil {
		t.Fatal(err)
	}
	state, _ := client.TLSConnectionState()
	return state.PeerCertificates[0]
}

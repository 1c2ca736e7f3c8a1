package pass

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
)

// offline is a host without servers, for the rules that need none: nothing listens, nothing is asked.
type offline struct {
	*host
	authority *x509.Certificate
	key       crypto.Signer
}

// directory is the CA of an offline host.
const directory = "https://ca.example/directory"

func newOffline(t testing.TB) *offline {
	t.Helper()
	dir := t.TempDir()
	o := &offline{host: &host{Lab: &lab.Lab{Directory: dir}, t: t, config: filepath.Join(dir, "mxcert.yaml")}}
	o.check(os.Mkdir(o.Path("tls"), 0o700))
	o.authority, o.key = newAuthority(t)
	o.put("roots.pem", string(pemOf(o.authority)))
	o.write(fmt.Sprintf(`acme:
  agree_tos: true
  directory: %[2]q
  roots_file: "%[1]s/roots.pem"
dns: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:9"}}
certificates:
  - name: mx
    domains: ["mx.example.org", "host7.example.org"]
    keys: [ec256]
    deploy:
      - files: {certificate: "%[1]s/tls/mx.crt", private_key: "%[1]s/tls/mx.key", mode: "0640"}
    verify: {endpoints: [], timeout: 1s}
state: "%[1]s/state"
hooks: {directory: "%[1]s/hooks"}
`, dir, directory))
	return o
}

func newAuthority(t testing.TB) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// sign makes a certificate of 90 days, of which a third has passed, that change has changed; key is nil for a new key.
func (o *offline) sign(keyType bundle.KeyType, key crypto.Signer, change func(*x509.Certificate)) *bundle.Bundle {
	o.t.Helper()
	var err error
	if key == nil {
		key, err = keyType.Generate()
		o.check(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	o.check(err)
	const day = 24 * time.Hour
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{"mx.example.org", "host7.example.org"}, NotBefore: time.Now().Add(-30 * day), NotAfter: time.Now().Add(60 * day),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.authority, key.Public(), o.key)
	o.check(err)
	text, err := bundle.MarshalKey(key)
	o.check(err)
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pemOf(o.authority)...)
	b, err := bundle.Parse(chain, text)
	o.check(err)
	return b
}

// store keeps a bundle as a generation that was issued at a time; it becomes current.
func (o *offline) keep(b *bundle.Bundle, at time.Time) state.Generation {
	o.t.Helper()
	g, err := o.lineage().Add(b, []string{"mx.example.org", "host7.example.org"}, directory, "", at)
	o.check(err)
	o.remember(func(r *state.Record) {
		r.Slot(b.KeyType()).Issued(g.ID, schedule.RenewalTime(g.NotBefore, g.NotAfter, g.Created))
	})
	return g
}

// issued keeps a good certificate that was issued an hour ago and is in service.
func (o *offline) issued() state.Generation {
	o.t.Helper()
	return o.inService(o.keep(o.sign(bundle.EC256, nil, nil), time.Now().Add(-time.Hour)))
}

// inService notes that a generation was proven.
func (o *offline) inService(g state.Generation) state.Generation {
	o.t.Helper()
	o.remember(func(r *state.Record) {
		slot := r.Slot(g.Key)
		slot.Previous, slot.Served = slot.Served, g.ID
	})
	return g
}

// begin makes a pass that has looked at what is issued, and does nothing yet.
func (h *host) begin(options Options) *pass {
	h.t.Helper()
	r := h.runner()
	p, leave, err := r.start(h.t.Context(), r.Host.Certificates[0], options, h.say)
	h.check(err)
	h.t.Cleanup(leave)
	h.check(p.load(h.t.Context()))
	return p
}

// have is what is issued now.
func (h *host) have() *issued.Lineage {
	h.t.Helper()
	have, err := issued.Look(h.lineage(), h.want().Keys)
	h.check(err)
	return have
}

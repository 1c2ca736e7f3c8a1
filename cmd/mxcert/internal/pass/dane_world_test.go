package pass

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// daneHost is a host with one name whose TLSA records are at the port of the lab's SMTP server.
type daneHost struct {
	*host
	ttl time.Duration // of the records
}

// newDANEHost makes a host in signed zones. The settings are those of `dane`, without the ports; "" leaves the mode unset.
func newDANEHost(t testing.TB, settings string, options lab.Options) *daneHost {
	t.Helper()
	options.Signed = true
	h := &daneHost{newHost(t, options, lab.ConfigOptions{Domains: []string{"mx.example.org"}}), 2 * time.Second}
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	h.edit("  agree_tos: true\n", "  agree_tos: true\n  limits: none\n")
	if settings != "" {
		settings += ", "
	}
	h.edit("    keys: [", fmt.Sprintf("    dane: {%shold: 0s, ttl: 2s, ports: [%s]}\n    keys: [", settings, port))
	return h
}

// faster makes the TTL a second, for tests that wait for many of them and need no room between its end and ours.
func (h *daneHost) faster() *daneHost {
	h.t.Helper()
	h.edit("ttl: 2s", "ttl: 1s")
	h.ttl = time.Second
	return h
}

// owner is the owner name of the records.
func (h *daneHost) owner() string {
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	return "_" + port + "._tcp.mx.example.org."
}

// typeTLSA is the number of the type (RFC 6698 section 7.1).
const typeTLSA = 52

// publish replaces the records, as an operator does.
func (h *daneHost) publish(records ...string) {
	h.t.Helper()
	lines := make([]string, len(records))
	for i, r := range records {
		lines[i] = fmt.Sprintf("%s %d TLSA %s", h.owner(), int(h.ttl.Seconds()), r)
	}
	if len(lines) == 0 {
		h.check(h.World.Remove(h.owner(), typeTLSA))
		return
	}
	h.check(h.World.Replace(lines...))
}

// spki is the key in service.
func (h *daneHost) spki() string {
	h.t.Helper()
	chain, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	h.check(err)
	return bundle.SPKIOf(chain[0].RawSubjectPublicKeyInfo)
}

// record is the record of the key in service.
func (h *daneHost) record() string { return dane.Record(h.spki()).String() }

// tlsa is what is remembered.
func (h *daneHost) remembered() (s dane.State) {
	h.t.Helper()
	h.check(h.lineage().TLSA(&s))
	return s
}

// until makes passes of the daemon until a condition holds.
func (h *daneHost) until(patience time.Duration, what string, done func(report.Certificate) bool) report.Certificate {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		c := h.run(h.t.Context(), byDaemon)
		if done(c) {
			return c
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: not so after %v: %+v, %+v; said: %s", what, patience, c.TLSA, c.Error, strings.Join(h.said, "\n"))
		}
		wake := time.Second
		if !c.NextTLSA.IsZero() {
			wake = min(max(time.Until(c.NextTLSA), 200*time.Millisecond), 5*time.Second)
		}
		time.Sleep(wake)
	}
}

// patience is how long a rollover with a TTL of two seconds may take on a busy machine.
const patience = 3 * time.Minute

// wholeRecord is the record 3 0 1 of the certificate in service.
func (h *daneHost) wholeRecord() string {
	h.t.Helper()
	chain, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	h.check(err)
	return fmt.Sprintf("3 0 1 %x", sha256.Sum256(chain[0].Raw))
}

// stored reads a file of the lineage.
func (h *daneHost) stored(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.Path("state", "lineages", "mx", name))
	h.check(err)
	return string(text)
}

// backUp copies the state directory.
func (h *daneHost) backUp() string {
	h.t.Helper()
	dir := filepath.Join(h.t.TempDir(), "state")
	h.check(os.CopyFS(dir, os.DirFS(h.Path("state"))))
	return dir
}

// restore puts a copy in the place of the state directory.
func (h *daneHost) restore(backup string) {
	h.t.Helper()
	h.check(os.RemoveAll(h.Path("state")))
	h.check(os.CopyFS(h.Path("state"), os.DirFS(backup)))
}

// overwrite replaces the deployed files with a self-signed pair, as a package's script would.
func (h *daneHost) overwrite(name string) {
	h.t.Helper()
	h.selfSigned(name, h.Path("tls", "mx.crt"), h.Path("tls", "mx.key"))
}

// selfSigned writes a self-signed pair, and returns the record of its key.
func (h *daneHost) selfSigned(name, certificate, privateKey string) string {
	h.t.Helper()
	key, err := bundle.EC256.Generate()
	h.check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	h.check(err)
	text, err := bundle.MarshalKey(key)
	h.check(err)
	h.check(os.WriteFile(privateKey, text, 0o600))
	h.check(os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	c, err := x509.ParseCertificate(der)
	h.check(err)
	return dane.Record(bundle.SPKIOf(c.RawSubjectPublicKeyInfo)).String()
}

package verdict

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/deploy/starttls"
)

// TestOpenSSLAgreesOnCertificates asks `openssl verify` about each chain of the table for PKIX. It decides as we do, unless we do not
// judge or say that senders differ.
func TestOpenSSLAgreesOnCertificates(t *testing.T) {
	asked := 0
	for _, r := range pkixRows() {
		f := facts(r.edits...)
		if r.want == "?" || len(f.Handshakes) != 1 || f.Handshakes[0].Shown == nil || f.Roots == nil {
			continue
		}
		asked++
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			chain := f.Handshakes[0].Shown.Chain
			dir := t.TempDir()
			write(t, dir, "leaf.pem", chain[0].Raw)
			rest := [][]byte{chain[0].Raw} // one at least has to be there
			for _, c := range chain[1:] {
				rest = append(rest, c.Raw)
			}
			write(t, dir, "rest.pem", rest...)
			var roots [][]byte
			for _, e := range everyRoot {
				if p := pool(e); f.Roots.Equal(p) {
					roots = append(roots, e.Raw)
				}
			}
			if len(roots) == 0 {
				t.Fatal("the roots of the row are not those of one known CA")
			}
			write(t, dir, "roots.pem", roots...)
			out, err := exec.Command("openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile", filepath.Join(dir, "roots.pem"), "-untrusted", filepath.Join(dir, "rest.pem"),
				"-partial_chain", "-purpose", "sslserver", "-verify_hostname", f.Host, "-attime", fmt.Sprint(f.At.Unix()), "-auth_level", "1", filepath.Join(dir, "leaf.pem")).CombinedOutput()
			agree(t, r, err == nil, out)
		})
	}
	if asked < 45 {
		t.Errorf("only %d rows can be asked about", asked)
	}
}

func agree(t *testing.T, r row, passes bool, out []byte) {
	t.Helper()
	if differs := slices.ContainsFunc(r.say, func(s string) bool { return strings.HasPrefix(s, "senders-differ") }); !differs && passes != strings.HasPrefix(r.want, "pass") {
		t.Errorf("we say %q, OpenSSL says: %s", r.want, out)
	}
}

func write(t *testing.T, dir, name string, certificates ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpenSSLAgreesOnTLSA has `openssl s_client` check the TLSA records of the tables for DANE against a server with the chain of the row.
// It judges one handshake, without names of the next hop, and does not know which DNS answers are secure.
func TestOpenSSLAgreesOnTLSA(t *testing.T) {
	asked := 0
	for _, r := range slices.Concat(daneRecords, daneIssuers()) {
		f := facts(r.edits...)
		chain := chainOf(f)
		if r.want == "?" || strings.HasPrefix(r.want, "n/a") || chain == nil || len(f.Bases) != 1 {
			continue
		}
		asked++
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			address := serve(t, chain)
			args := []string{"s_client", "-connect", address, "-servername", f.Bases[0].Domain, "-dane_tlsa_domain", f.Bases[0].Domain, "-attime", fmt.Sprint(f.At.Unix()), "-verify_return_error", "-dane_ee_no_namechecks", "-auth_level", "1"}
			for _, record := range f.Bases[0].TLSA.Records {
				args = append(args, "-dane_tlsa_rrdata", fmt.Sprintf("%s %x", combination(record), record.Data))
			}
			out, _ := exec.Command("openssl", args...).CombinedOutput()
			agree(t, r, strings.Contains(string(out), "Verification: OK"), out)
		})
	}
	if asked < 60 {
		t.Errorf("only %d rows can be asked about", asked)
	}
}

// chainOf is the only chain of a row, with its key.
func chainOf(f Facts) *tls.Certificate {
	var found *starttls.Result
	for _, h := range f.Handshakes {
		if h.ServerName != f.Bases[0].Domain {
			continue
		}
		if h.Shown == nil || found != nil {
			return nil
		}
		found = h.Shown
	}
	if found == nil {
		return nil
	}
	key, known := made.Load(string(found.Chain[0].Raw))
	if !known {
		return nil
	}
	c := &tls.Certificate{PrivateKey: key}
	for _, x := range found.Chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}

// serve answers TLS handshakes with the certificate.
func serve(t *testing.T, c *tls.Certificate) string {
	listener := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*c}}))
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				_ = conn.(*tls.Conn).Handshake()
				conn.Close()
			}(conn)
		}
	}()
	return listener.Addr().String()
}

// Package senders runs `mxcert verify` as it is shown to people: in a host of its own, for the domain example.org of another host, with every
// command that the documentation shows and every command of other tools that it prints.
package senders

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// A town is the domain example.org with a mail host and an MTA-STS policy on the receiver, and mxcert on the sender.
type town struct {
	*world.World
	DNS  *world.DNS
	SMTP map[string]*smtpd.Server // by address

	t      testing.TB
	issuer *issuer.Issuer
	leaf   *x509.Certificate // of the mail host
	roots  string            // a file with the root, on the sender and on this machine
}

const policy = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 604800\r\n"

// newTown builds it. The root of its certificates is one of the system's on the sender.
func newTown(t testing.TB) *town {
	t.Helper()
	mailhost.Require(t)
	w := &town{World: world.Start(t, ""), t: t, issuer: issuer.New(t), SMTP: map[string]*smtpd.Server{}}
	program, err := mailhost.Build(t.Context(), "mxcert/cmd/mxcert")
	w.check(err)
	w.check(w.Sender.WriteFile(mailhost.File{Path: "/usr/bin/mxcert", Content: program, Mode: 0o755}))
	host := w.issuer.Issue(t, 90*24*time.Hour, "mx.example.org")
	w.leaf = host.Leaf()
	w.serveMail(host, world.ReceiverIPv4, world.ReceiverIPv6)
	root := w.servePolicy(w.issuer.Issue(t, 90*24*time.Hour, "mta-sts.example.org"))
	w.check(w.Sender.Write("/etc/ssl/certs/ca-certificates.crt", root, 0o644))
	w.roots = filepath.Join(t.TempDir(), "private-ca.pem")
	w.check(os.WriteFile(w.roots, []byte(root), 0o600))
	w.check(w.Sender.Write(w.roots, root, 0o644))
	w.DNS, err = w.ServeDNS(t.Context(), w.zone(""))
	w.check(err)
	return w
}

func (w *town) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// zone is example.org, with a record for the TLSA record of the mail host: "" is the right one.
func (w *town) zone(tlsa string) world.Zone {
	if tlsa == "" {
		digest := sha256.Sum256(w.leaf.RawSubjectPublicKeyInfo)
		tlsa = "3 1 1 " + hex.EncodeToString(digest[:])
	}
	return world.Zone{Name: "example.org", Records: fmt.Sprintf(`@ MX 10 mx
mx A %s
mx AAAA %s
_25._tcp.mx TLSA %s
_mta-sts TXT "v=STSv1; id=20261129T000000;"
mta-sts A %[1]s
`, world.ReceiverIPv4, world.ReceiverIPv6, tlsa)}
}

// serveMail starts SMTP servers on port 25 of the receiver's addresses.
func (w *town) serveMail(b *bundle.Bundle, addresses ...string) {
	w.t.Helper()
	directory := w.t.TempDir()
	pair := smtpd.Pair{Certificate: filepath.Join(directory, "chain.pem"), PrivateKey: filepath.Join(directory, "key.pem")}
	w.check(os.WriteFile(pair.Certificate, b.LeafPEM(), 0o600))
	w.check(os.WriteFile(pair.PrivateKey, b.KeyPEM(), 0o600))
	for _, address := range addresses {
		var failed error
		w.check(w.Receiver.Do(func() {
			w.SMTP[address], failed = smtpd.Start(smtpd.Options{Listen: net.JoinHostPort(address, "25"), Pairs: []smtpd.Pair{pair}})
		}))
		w.check(failed)
		w.t.Cleanup(func() { _ = w.SMTP[address].Close() })
	}
}

// servePolicy starts the policy host, and returns the root of its certificate.
func (w *town) servePolicy(b *bundle.Bundle) (root string) {
	w.t.Helper()
	pair, err := tls.X509KeyPair(b.FullchainPEM(), b.KeyPEM())
	w.check(err)
	var listener net.Listener
	var failed error
	w.check(w.Receiver.Do(func() { listener, failed = net.Listen("tcp", world.ReceiverIPv4+":443") }))
	w.check(failed)
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}},
		Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(out, policy)
		}),
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	w.t.Cleanup(func() { _ = server.Close() })
	return string(b.ChainPEM())
}

// serveTunnel makes Unbound answer over TLS, too, on port 853 of the sender's 127.0.0.1, as dns.example.org.
func (w *town) serveTunnel() {
	w.t.Helper()
	b := w.issuer.Issue(w.t, 90*24*time.Hour, "dns.example.org")
	pair, err := tls.X509KeyPair(b.LeafPEM(), b.KeyPEM())
	w.check(err)
	var listener net.Listener
	var failed error
	w.check(w.Sender.Do(func() {
		listener, failed = tls.Listen("tcp", "127.0.0.1:853", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"dot"}})
	}))
	w.check(failed)
	w.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go w.forward(client)
		}
	}()
}

// forward copies a connection to Unbound.
func (w *town) forward(client net.Conn) {
	defer client.Close()
	_ = w.Sender.Do(func() { // a failure ends the connection
		server, err := net.Dial("tcp", world.Resolver)
		if err != nil {
			return
		}
		defer server.Close()
		go func() { _, _ = io.Copy(server, client) }()
		_, _ = io.Copy(client, server)
	})
}

// sh runs a line as somebody types it on the sender.
func (w *town) sh(line string) mailhost.Result {
	w.t.Helper()
	began := time.Now()
	defer func() { w.t.Logf("%s: %v", line, time.Since(began).Round(time.Millisecond)) }()
	if strings.HasPrefix(line, "curl ") {
		return w.here(line)
	}
	r, err := w.Sender.Run(w.t.Context(), "sh", "-c", line)
	w.check(err)
	return r
}

// here runs a line with the programs of this machine in the sender's network, because its root tree has no curl.
func (w *town) here(line string) (r mailhost.Result) {
	cmd := exec.CommandContext(w.t.Context(), "nsenter", "--target", fmt.Sprint(w.Sender.PID()), "--net", "--", "sh", "-c", line)
	cmd.Env = append(os.Environ(), "CURL_CA_BUNDLE="+w.roots)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // its code says it
	return mailhost.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

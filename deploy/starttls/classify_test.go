package starttls

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/port"
)

// opensslServer starts a TLS server of OpenSSL. make lists what follows "openssl req -x509", serve what follows "openssl s_server".
func opensslServer(t *testing.T, create, serve string) string {
	t.Helper()
	certificate, key := filepath.Join(t.TempDir(), "crt.pem"), filepath.Join(t.TempDir(), "key.pem")
	arguments := append(strings.Fields(create), "-x509", "-nodes", "-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=mx.example.org")
	if out, err := exec.Command("openssl", append([]string{"req"}, arguments...)...).CombinedOutput(); err != nil {
		t.Fatalf("openssl req %s: %v: %s", create, err, out)
	}
	address := port.Address(t)
	server := exec.Command("openssl", append([]string{"s_server", "-quiet", "-accept", address, "-cert", certificate, "-key", key}, strings.Fields(serve)...)...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for range 6000 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("openssl s_server %s does not listen", serve)
	return ""
}

const ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256"

// TestNotJudged has servers of OpenSSL whose TLS or certificates Go cannot speak or read, beside some that it can.
func TestNotJudged(t *testing.T) {
	const anyLevel = "-cipher ALL:@SECLEVEL=0"
	for _, tt := range []struct {
		name, create, serve string
		ask                 KeyType
		kind                string // "" if the handshake succeeds
	}{
		{"P-256", ec, "", Any, ""},
		{"static RSA", "-newkey rsa:2048", "-tls1_2 -cipher AES256-SHA256:AES128-GCM-SHA256", Any, ""},
		{"static RSA, RSA only", "-newkey rsa:2048", "-tls1_2 -cipher AES128-GCM-SHA256", RSA, ""},
		{"DHE only", "-newkey rsa:2048", "-tls1_2 -cipher DHE", Any, KindNotJudged},
		{"brainpool group only", ec, "-tls1_2 -curves brainpoolP256r1", Any, KindNotJudged},
		{"TLS 1.3 with X448 only", ec, "-tls1_3 -curves X448", Any, KindNotJudged},
		{"key on secp256k1", "-newkey ec -pkeyopt ec_paramgen_curve:secp256k1", "-tls1_2", Any, KindNotJudged},
		{"key on brainpool", "-newkey ec -pkeyopt ec_paramgen_curve:brainpoolP256r1", "-tls1_2", Any, KindNotJudged},
		{"Ed448", "-newkey ed448", "", Any, KindNotJudged},
		{"everything, P-256", ec, "", Everything, KindNotJudged},
		{"everything, DHE only", "-newkey rsa:2048", "-tls1_2 -cipher DHE", Everything, KindNotJudged},
		{"everything, brainpool group only", ec, "-tls1_2 -curves brainpoolP256r1", Everything, KindNotJudged},
		{"everything, X448", ec, "-tls1_3 -curves X448", Everything, KindNotJudged},
		{"everything, CCM", "-newkey rsa:2048", "-tls1_2 -cipher AES256-CCM", Everything, KindNotJudged},
		{"everything, Ed448", "-newkey ed448", "", Everything, KindNotJudged},
		{"everything, key on brainpool", "-newkey ec -pkeyopt ec_paramgen_curve:brainpoolP256r1", "-tls1_2", Everything, KindNotJudged},
		{"everything of 1.2, P-256", ec, "", Everything12, KindNotJudged},
		{"everything of 1.2, TLS 1.3 only", ec, "-tls1_3", Everything12, KindTLSVersion},
		{"everything, anonymous only", ec, "-tls1_2 -cipher aNULL:@SECLEVEL=0", Everything, KindValidationFailure},
		{"Ed25519", "-newkey ed25519", "", Any, ""},
		{"negative serial", ec + " -set_serial -5", "", Any, KindNotJudged},
		{"serial 0", ec + " -set_serial 0", "", Any, ""},
		{"UTF-8 in a SAN", ec + " -addext subjectAltName=DNS:müller.example", "", Any, KindNotJudged},
		{"RSA 512", "-newkey rsa:512", anyLevel, Any, KindNotJudged},
		{"RSA 1024", "-newkey rsa:1024", anyLevel, Any, ""},
		{"TLS 1.0 only", ec, "-tls1 " + anyLevel, Any, KindTLSVersion},
		{"TLS 1.1 only", ec, "-tls1_1 " + anyLevel, Any, KindTLSVersion},
		{"TLS 1.1 only, asked for", ec, "-tls1_1 " + anyLevel, OldTLS, ""},
		{"TLS 1.2 only, old asked for", ec, "-tls1_2", OldTLS, KindTLSVersion},
		{"TLS 1.2 only, 1.3 asked for", ec, "-tls1_2", TLS13, KindTLSVersion},
		{"TLS 1.3 only, RSA asked for", "-newkey rsa:2048", "-tls1_3", RSA, KindTLSVersion},
		{"ECDSA only, RSA asked for", ec, "-tls1_2", RSA, KindKeyTypeNotOffered},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := request(opensslServer(t, tt.create, tt.serve))
			q.Protocol, q.KeyType = TLS, tt.ask
			r, err := Handshake(t.Context(), q)
			if tt.kind != "" {
				e := assertError(t, err, StepTLS, tt.kind)
				if tt.kind == KindNotJudged && !strings.Contains(e.Hint(), "openssl s_client -connect "+q.Address+" -servername mx.example.org") {
					t.Errorf("the hint has no command: %s", e.Hint())
				}
				return
			}
			if err != nil || len(r.Chain) != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			if old := r.Version < 0x0303; old != (tt.ask == OldTLS) {
				t.Errorf("version %x", r.Version)
			}
		})
	}
}

func TestStrippedByADevice(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		stripped     bool
	}{
		{"ASA", greeted + `> 250-mx.example.org\r\n250-SIZE 1000\r\n250-XXXXXXXA\r\n250 PIPELINING\r\n`, true},
		{"X only", greeted + `> 250-mx.example.org\r\n250 XXXXXXXX\r\n`, true},
		{"asterisks", greeted + `> 250-mx.example.org\r\n250 ********\r\n`, true},
		{"fixup", `> 220 ************************************0*00**\r\n
			< EHLO client.example.org
			> 500 5.5.1 Command unrecognized: "XXXX client.example.org"\r\n`, true},
		{"masked greeting", `> 220 **************************\r\n
			< EHLO client.example.org
			> 250-mx.example.org\r\n250 SIZE 1\r\n`, true},
		{"not offered", greeted + `> 250-mx.example.org\r\n250 SIZE 1000\r\n`, false},
		{"an extension of its own", greeted + `> 250-mx.example.org\r\n250-XCLIENT NAME ADDR\r\n250-XFORWARD A\r\n250 XEXCH50X\r\n`, false},
		{"a decorated greeting", `> 220 *** mx.example.org ESMTP welcomes you ***\r\n
			< EHLO client.example.org
			> 250-mx.example.org\r\n250 SIZE 1\r\n`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Handshake(t.Context(), request(serve(t, bothKeys(), tt.script)))
			e := assertError(t, err, StepEHLO, KindSTARTTLSNotSupported)
			if e.Stripped != tt.stripped || e.Stripped != strings.Contains(e.Hint(), "firewall") {
				t.Errorf("stripped %t: %v; %s", e.Stripped, e, e.Hint())
			}
		})
	}
}

func TestWhatTheServerSaysOfItself(t *testing.T) {
	r, err := Handshake(t.Context(), request(serve(t, bothKeys(), goodServer)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Greeting != "mx.example.org ESMTP" || r.EHLO != "mx.example.org" || fmt.Sprint(r.Plain) != "[SIZE 1000 STARTTLS HELP]" {
		t.Errorf("greeting %q, name %q, extensions %q", r.Greeting, r.EHLO, r.Plain)
	}
	q := request(serve(t, bothKeys(), dovecotIMAP))
	q.Protocol = IMAP
	if r, err = Handshake(t.Context(), q); err != nil || !strings.HasPrefix(r.Greeting, "[CAPABILITY") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestAlertForAVersion: GnuTLS without TLS 1.3 answers handshake_failure to a client that has nothing else. That is no limit of Go.
func TestAlertForAVersion(t *testing.T) {
	for key, want := range map[KeyType]string{Any: KindNotJudged, RSA: KindKeyTypeNotOffered, TLS13: KindTLSVersion, OldTLS: KindTLSVersion} {
		q := request("mx:25")
		q.KeyType = key
		s := &session{request: q.withDefaults(), result: &Result{}, ctx: t.Context()}
		e := s.ioError(StepTLS, &net.OpError{Op: "remote error", Err: tls.AlertError(40)})
		if e.Kind() != want || e.Alert != 40 {
			t.Errorf("%s: %v", key, e)
		}
	}
}

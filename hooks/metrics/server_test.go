package metrics_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"mxcert/cmd/mxcert-lab/port"
	"mxcert/hooks/metrics"
)

func goVersion() string { return runtime.Version() }

// ask gets a page; code 0 means that there is no answer.
func ask(t *testing.T, client *http.Client, url, user, password string) (code int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close() //nolint:errcheck // it is read
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// client makes a connection for each request.
func client(roots *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

func TestServer(t *testing.T) {
	t.Parallel()
	var hangs atomic.Bool
	srv := server(t, source(), func() error {
		if hangs.Load() {
			return errors.New("a pass over mx hangs")
		}
		return nil
	})
	first, second := port.Address(t), port.Address(t)
	if again := srv.Apply(metrics.Settings{Listen: first}); !again.IsZero() {
		t.Fatalf("%s is not listened on", first)
	}
	plain := client(nil)
	if code, text := ask(t, plain, "http://"+first+"/metrics", "", ""); code != 200 || !strings.Contains(text, "mxcert_build_info") {
		t.Errorf("metrics: %d %s", code, text)
	}
	if code, text := ask(t, plain, "http://"+first+"/healthz", "", ""); code != 200 || text != "ok\n" {
		t.Errorf("healthz: %d %s", code, text)
	}
	hangs.Store(true)
	if code, text := ask(t, plain, "http://"+first+"/healthz", "", ""); code != 503 || text != "a pass over mx hangs\n" {
		t.Errorf("healthz while a pass hangs: %d %s", code, text)
	}
	if code, _ := ask(t, plain, "http://"+first+"/other", "", ""); code != 404 {
		t.Errorf("another page: %d", code)
	}
	at := srv.Address()
	if srv.Apply(metrics.Settings{Listen: first}); srv.Address() != at {
		t.Error("the same settings start another server")
	}
	srv.Apply(metrics.Settings{Listen: second})
	if code, _ := ask(t, plain, "http://"+first+"/metrics", "", ""); code != 0 {
		t.Errorf("after the move the old address answers: %d", code)
	}
	if code, _ := ask(t, plain, "http://"+second+"/metrics", "", ""); code != 200 {
		t.Errorf("after the move the new address answers: %d", code)
	}
	srv.Apply(metrics.Settings{})
	if code, _ := ask(t, plain, "http://"+second+"/metrics", "", ""); code != 0 || srv.Address() != nil {
		t.Errorf("after the end: %d", code)
	}
}

// An address in use costs one line, and the next try succeeds when it is free.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", port.Address(t)) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	srv := metrics.NewServer(slog.New(slog.NewTextHandler(&log, nil)), source(), nil)
	defer srv.Close()
	settings := metrics.Settings{Listen: l.Addr().String()}
	for range 3 {
		if again := srv.Apply(settings); again.IsZero() {
			t.Fatal("nobody tries again")
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "address already in use") || !strings.Contains(log.String(), "another program listens there") {
		t.Errorf("the log says %s", log.String())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if again := srv.Apply(settings); !again.IsZero() {
		t.Errorf("the free address is not taken: %s", log.String())
	}
	if code, _ := ask(t, client(nil), "http://"+settings.Listen+"/metrics", "", ""); code != 200 {
		t.Errorf("metrics: %d", code)
	}
}

// TestWebConfig has TLS and a password, as the page of exporter-toolkit writes them.
func TestWebConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, roots := filepath.Join(dir, "web.yaml"), certificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("long enough"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, fmt.Sprintf("tls_server_config: {cert_file: web.crt, key_file: web.key}\nbasic_auth_users: {prometheus: %q}\n", hash))
	srv := server(t, source(), func() error { return nil })
	settings := metrics.Settings{Listen: port.Address(t), WebConfig: file}
	if again := srv.Apply(settings); !again.IsZero() {
		t.Fatal("a good file is refused")
	}
	if code, text := ask(t, client(roots), "https://"+settings.Listen+"/metrics", "prometheus", "long enough"); code != 200 || !strings.Contains(text, "mxcert_build_info") {
		t.Errorf("with the password: %d %s", code, text)
	}
	for _, page := range []string{"/metrics", "/healthz"} {
		if code, text := ask(t, client(roots), "https://"+settings.Listen+page, "prometheus", "wrong"); code != 401 || strings.Contains(text, "mxcert_") {
			t.Errorf("%s with a wrong password: %d %s", page, code, text)
		}
	}
	if code, text := ask(t, client(nil), "http://"+settings.Listen+"/metrics", "prometheus", "long enough"); code == 200 {
		t.Errorf("without TLS: %d %s", code, text)
	}
	if err := metrics.CheckWebConfig(file); err != nil {
		t.Errorf("check: %v", err)
	}
	// A broken file answers nobody, and one that is repaired needs no restart.
	write(t, file, "tls_server_config: [\n")
	if code, text := ask(t, client(roots), "https://"+settings.Listen+"/metrics", "prometheus", "long enough"); code == 200 {
		t.Errorf("with a broken file: %s", text)
	}
	write(t, file, "tls_server_config: {cert_file: web.crt, key_file: web.key}\n")
	if code, text := ask(t, client(roots), "https://"+settings.Listen+"/metrics", "", ""); code != 200 {
		t.Errorf("without passwords: %d %s", code, text)
	}
}

// A bad web configuration opens no port, least of all one without a password.
func TestBadWebConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir)
	for name, text := range map[string]string{
		"syntax":         "tls_server_config: [",
		"unknown key":    "passwords: {prometheus: secret}",
		"no such file":   "tls_server_config: {cert_file: other.crt, key_file: web.key}",
		"half":           "tls_server_config: {cert_file: web.crt}",
		"clear password": "basic_auth_users: {prometheus: secret}",
		"TLS version":    "tls_server_config: {cert_file: web.crt, key_file: web.key, min_version: TLS9}",
	} {
		file := filepath.Join(dir, "bad.yaml")
		write(t, file, text)
		srv := server(t, source(), nil)
		settings := metrics.Settings{Listen: port.Address(t), WebConfig: file}
		if again := srv.Apply(settings); again.IsZero() || srv.Address() != nil {
			if name == "clear password" { // exporter-toolkit finds it when somebody asks
				if code, _ := ask(t, client(nil), "http://"+settings.Listen+"/metrics", "prometheus", "secret"); code == 200 {
					t.Errorf("%s: a password that is no hash opens the page", name)
				}
				continue
			}
			t.Errorf("%s: mxcert listens", name)
		}
		if err := metrics.CheckWebConfig(file); err == nil {
			t.Errorf("%s: the check finds nothing", name)
		}
	}
	if err := metrics.CheckWebConfig(filepath.Join(dir, "missing.yaml")); err == nil {
		t.Error("a missing file: the check finds nothing")
	}
}

// Clients that say nothing keep no others away for ever, and the end does not wait for them.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	srv := server(t, source(), nil)
	settings := metrics.Settings{Listen: port.Address(t)}
	srv.Apply(settings)
	for range 40 {
		c, err := net.Dial("tcp", settings.Listen) //nolint:noctx // on loopback
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // nothing was written
	}
	if code, text := ask(t, client(nil), "http://"+settings.Listen+"/metrics", "", ""); code != 200 {
		t.Errorf("behind forty silent clients: %d %s", code, text)
	}
	srv.Close()
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificate writes a self-signed pair for 127.0.0.1 to web.crt and web.key.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mxcert"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "web.crt"), string(text))
	write(t, filepath.Join(dir, "web.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return roots
}

// Whoever asks while the web configuration is bad does not fill the log.
func TestBrokenWebConfigIsLoggedOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yaml")
	write(t, file, "http_server_config: {http2: false}\n")
	var log lockedBuilder
	srv := metrics.NewServer(slog.New(slog.NewTextHandler(&log, nil)), source(), nil)
	t.Cleanup(srv.Close)
	settings := metrics.Settings{Listen: port.Address(t), WebConfig: file}
	if again := srv.Apply(settings); !again.IsZero() {
		t.Fatal("a good file is refused")
	}
	write(t, file, "tls_server_config: [\n")
	for range 20 {
		if code, text := ask(t, client(nil), "http://"+settings.Listen+"/metrics", "", ""); code == 200 {
			t.Fatalf("with a broken file: %s", text)
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

// lockedBuilder is a log that several goroutines write.
type lockedBuilder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

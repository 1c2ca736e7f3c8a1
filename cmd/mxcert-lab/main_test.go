package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// background runs a command that serves, until stop is called, which gives the exit code and what was printed.
func background(t *testing.T, args ...string) (stop func() (code int, stdout, stderr string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, &stdout, &stderr) }()
	return func() (int, string, string) {
		t.Helper()
		cancel()
		select {
		case c := <-code:
			return c, stdout.String(), stderr.String()
		case <-time.After(time.Minute):
			t.Fatal("the command does not end")
			return 0, "", ""
		}
	}
}

// awaitFile waits for a file that appears whole.
func awaitFile(t *testing.T, path string) []byte {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		content, err := os.ReadFile(path)
		if err == nil {
			return content
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func directoryStatus(t *testing.T, caFile, url string) int {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

func TestUp(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "the lab")
	readyFile := filepath.Join(t.TempDir(), "ready")
	stop := background(t, "up", "--dir", directory, "--ready-file", readyFile, "--validity", "5m", "--secondaries", "1", "--preload", "4s")
	var r ready
	if err := json.Unmarshal(awaitFile(t, readyFile), &r); err != nil {
		t.Fatal(err)
	}
	if got := directoryStatus(t, filepath.Join(directory, "ca.pem"), r.CA); got != http.StatusOK {
		t.Errorf("the CA answers %d", got)
	}
	if len(r.NameServers) != 2 {
		t.Errorf("name servers: %v", r.NameServers)
	}
	for _, address := range r.NameServers {
		if reply, err := dns.Exchange(new(dns.Msg).SetQuestion("mx.example.org.", dns.TypeA), address); err != nil || len(reply.Answer) != 1 {
			t.Errorf("the name server %s: %v", address, err)
		}
	}
	client, err := smtp.Dial(r.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	if offered, _ := client.Extension("STARTTLS"); !offered {
		t.Error("the SMTP server offers no STARTTLS")
	}
	_ = client.Close()
	code, stdout, stderr := stop()
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, want := range []string{r.CA, r.SMTP, "live 5m0s", "once, and again 4s", "'" + r.Config + "' renew --now", "openssl s_client", "dig @127.0.0.1"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if _, err := os.Stat(readyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the ready file after the end: %v", err)
	}
	if _, err := os.Stat(r.Config); err != nil {
		t.Errorf("the configuration after the end: %v", err)
	}
}

func TestCA(t *testing.T) {
	directory := t.TempDir()
	caFile, rootsFile := filepath.Join(directory, "ca.pem"), filepath.Join(directory, "roots.pem")
	stop := background(t, "ca", "--listen", "127.0.0.1:0", "--dns", "127.0.0.1:53", "--management", "127.0.0.1:0", "--validity", "120s",
		"--profile", "shortlived=160h", "--ca-file", caFile, "--roots-file", rootsFile)
	awaitFile(t, caFile)
	awaitFile(t, rootsFile)
	code, stdout, stderr := stop()
	if code != exitOK || stderr != "" || !strings.Contains(stdout, "ACME directory: https://127.0.0.1:") || !strings.Contains(stdout, "management:") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	for _, file := range []string{caFile, rootsFile} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o644 {
			t.Errorf("%s has mode %s", file, info.Mode())
		}
	}
}

func TestCommandLines(t *testing.T) {
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"version", exitOK, "mxcert-lab 0.0.0-dev (go", ""},
		{"--help", exitOK, "Available Commands", ""},
		{"", exitOK, "Available Commands", ""},
		{"nonsense", exitUsage, "", "nonsense"},
		{"up extra", exitUsage, "", `unknown argument "extra"`},
		{"up --nonsense", exitUsage, "", "--nonsense"},
		{"up --profile x=y", exitUsage, "", "--profile x=y"},
		{"up --validity 1ms", exitFault, "", "validity 1ms"},
		{"ca --listen 127.0.0.1:x", exitFault, "", "start the CA: listen"},
		{"ca --listen 127.0.0.1:0 --ca-file /does/not/exist", exitFault, "", "/does/not/exist"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr)
		if code != test.code || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: exit code %d, %q, %q", test.args, code, stdout.String(), stderr.String())
		}
	}
}

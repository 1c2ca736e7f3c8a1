package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// host is a mail world and a configuration file to run commands with.
type host struct {
	*lab.Lab
	t      *testing.T
	config string
}

func newHost(t *testing.T, options lab.Options, config lab.ConfigOptions) *host {
	t.Helper()
	if options.CA.Wrap == nil {
		options.CA.Wrap = refuseUnknownReplaced
	}
	l := lab.New(t, options)
	h := &host{Lab: l, t: t, config: filepath.Join(l.Directory, "mxcert.yaml")}
	h.write(l.Config(config))
	return h
}

// refuseUnknownReplaced gives the answer of a CA that does not find the certificate which an order is to replace (RFC 9773
// section 5). Pebble does not find one in 256, because it takes the zero before the first byte of a serial number for a part
// of it, and calls that a fault of its own.
func refuseUnknownReplaced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ca.EndpointOf(r.URL.Path) != ca.NewOrder {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		if answer.Code == http.StatusInternalServerError && strings.Contains(answer.Body.String(), "could not find an order for the given certificate") {
			w.Header().Del("Content-Length")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"type": "urn:ietf:params:acme:error:malformed", "detail": "the replaced certificate is unknown"}`)
			return
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// placed counts the orders that the CA has taken.
func (h *host) placed() int {
	n := 0
	for _, r := range h.CA.Requests() {
		if r.Endpoint == ca.NewOrder && r.Status == http.StatusCreated {
			n++
		}
	}
	return n
}

func (h *host) write(text string) {
	h.t.Helper()
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// edit replaces text in the configuration; what is not there to be replaced is a mistake of the test.
func (h *host) edit(old, replacement string) {
	h.t.Helper()
	text, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		h.t.Fatalf("the configuration has no %q:\n%s", old, text)
	}
	h.write(strings.Replace(string(text), old, replacement, 1))
}

// result is what a command left.
type result struct {
	code           report.Code
	stdout, stderr string
}

// said returns the result for a person on one line, because results are broken into lines of 80 columns.
func (r result) said() string { return strings.Join(strings.Fields(r.stdout), " ") }

// run runs one command line in this process.
func (h *host) run(args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := Run(ctx, testRelease, append([]string{"-c", h.config}, args...), &stdout, &stderr)
	return result{code: report.Code(code), stdout: stdout.String(), stderr: stderr.String()}
}

// report runs a command with --json and reads its report; the exit code must be the wanted one.
func (h *host) report(code report.Code, args ...string) report.Report {
	h.t.Helper()
	got := h.run(append(args, "--json")...)
	var r report.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("%v printed no JSON (%v):\n%s\n%s", args, err, got.stdout, got.stderr)
	}
	if got.code != code {
		h.t.Fatalf("%v exited with %d, want %d:\n%s\n%s", args, got.code, code, got.stdout, got.stderr)
	}
	return r
}

// hook writes an executable. $lab is the lab's directory.
func (h *host) hook(name, script string) {
	h.t.Helper()
	path := h.Path("hooks", name)
	h.check(os.MkdirAll(filepath.Dir(path), 0o755))
	h.check(os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nlab='%s'\n%s\n", h.Directory, script), 0o755))
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
)

// host is a mail world and a configuration file to run commands with.
type host struct {
	*lab.Lab
	t      *testing.T
	config string
}

func newHost(t *testing.T, options lab.Options, config lab.ConfigOptions) *host {
	t.Helper()
	l := lab.New(t, options)
	h := &host{Lab: l, t: t, config: filepath.Join(l.Directory, "mxcert.yaml")}
	h.write(l.Config(config))
	return h
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
	code           int
	stdout, stderr string
}

// run runs one command line in this process.
func (h *host) run(args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, append([]string{"-c", h.config}, args...), &stdout, &stderr)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// report runs a command with --json and reads its report; the exit code must be the wanted one.
func (h *host) report(code int, args ...string) report {
	h.t.Helper()
	got := h.run(append(args, "--json")...)
	var r report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("%v printed no JSON (%v):\n%s\n%s", args, err, got.stdout, got.stderr)
	}
	if got.code != code {
		h.t.Fatalf("%v exited with %d, want %d:\n%s\n%s", args, got.code, code, got.stdout, got.stderr)
	}
	return r
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
)

// world is a lab with a configuration of many certificates. The lab's own SMTP server serves the first, and mxcert proves it there. The
// others are pairs of files.
type world struct {
	*lab.Lab
	config  string
	servers []*smtpd.Server // beside that of the lab
}

// Close stops everything.
func (w *world) Close() error {
	var all []error
	for _, s := range w.servers {
		all = append(all, s.Close())
	}
	return errors.Join(append(all, w.Lab.Close())...)
}

func newWorld(ctx context.Context, certificates int) (*world, error) {
	// Only the resting daemon is measured, so there is no need to look at the DNS a thousand times before.
	l, err := lab.Start(ctx, lab.Options{CA: ca.Options{SkipValidation: true}})
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l, config: l.Path("mxcert.yaml")}
	var more strings.Builder
	for i := 1; i < certificates; i++ {
		fmt.Fprintf(&more, "  - name: mx%d\n    domains: [mx%d.example.org]\n    deploy:\n      - files: {certificate: %q, private_key: %q}\n    verify: {endpoints: []}\n",
			i, i, l.Path("tls", fmt.Sprintf("mx%d.crt", i)), l.Path("tls", fmt.Sprintf("mx%d.key", i)))
	}
	return w, w.write(l.Config(lab.ConfigOptions{}), more.String())
}

// write writes the configuration with further certificates.
func (w *world) write(text, certificates string) error {
	begin, end, _ := strings.Cut(text, "state: ")
	if err := os.WriteFile(w.config, []byte(begin+certificates+"state: "+end), 0o600); err != nil {
		return errors.Join(err, w.Close())
	}
	return nil
}

// issue orders and deploys all certificates, as a person would.
func (w *world) issue(ctx context.Context, mxcert string) error {
	out, err := exec.CommandContext(ctx, mxcert, "-c", w.config, "--progress", "none", "renew", "--now").CombinedOutput()
	if err != nil {
		return fmt.Errorf("mxcert renew --now: %w\n%.2000s", err, out)
	}
	return nil
}

// caddyfile makes Caddy manage one name by ACME, at its own CA.
const caddyfile = `{
	admin off
	http_port 0
	https_port 0
	storage file_system %q
	acme_ca %s
	acme_ca_root %s
}
mx.example.org {
	respond "hello"
}
`

// newPeer starts a CA for Caddy and returns the arguments that make Caddy run.
func newPeer(ctx context.Context) (args []string, stop func() error, err error) {
	l, err := lab.Start(ctx, lab.Options{CA: ca.Options{SkipValidation: true, Log: io.Discard}})
	if err != nil {
		return nil, nil, err
	}
	file := l.Path("Caddyfile")
	text := fmt.Sprintf(caddyfile, l.Path("caddy"), l.CA.DirectoryURL(), l.Path("ca.pem"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return []string{"run", "--adapter", "caddyfile", "--config", file}, l.Close, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"
)

// newDANEWorld is a world in signed zones, in which each certificate has its own name and SMTP server. Mode is that of dane.
func newDANEWorld(ctx context.Context, certificates int, mode string) (*world, error) {
	l, err := lab.Start(ctx, lab.Options{Signed: true, CA: ca.Options{SkipValidation: true}})
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l, config: l.Path("mxcert.yaml")}
	text := l.Config(lab.ConfigOptions{Domains: []string{"mx.example.org"}})
	text = strings.Replace(text, "    keys: [", dane(mode, l.SMTP)+"    keys: [", 1)
	var more strings.Builder
	for i := 1; i < certificates; i++ {
		pair := smtpd.Pair{Certificate: l.Path("tls", fmt.Sprintf("mx%d.crt", i)), PrivateKey: l.Path("tls", fmt.Sprintf("mx%d.key", i))}
		server, err := smtpd.Start(smtpd.Options{Pairs: []smtpd.Pair{pair}})
		if err == nil {
			w.servers = append(w.servers, server)
			err = l.World.Add(fmt.Sprintf("mx%d.example.org. A 127.0.0.1", i))
		}
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		fmt.Fprintf(&more, "  - name: mx%d\n    domains: [mx%d.example.org]\n%s    deploy:\n      - files: {certificate: %q, private_key: %q}\n    verify: {endpoints: [%q]}\n",
			i, i, dane(mode, server), pair.Certificate, pair.PrivateKey, server.Address())
	}
	return w, w.write(text, more.String())
}

// dane is the section of a certificate.
func dane(mode string, server *smtpd.Server) string {
	_, port, _ := net.SplitHostPort(server.Address())
	return fmt.Sprintf("    dane: {mode: %q, hold: 0s, ports: [%s]}\n", mode, port)
}

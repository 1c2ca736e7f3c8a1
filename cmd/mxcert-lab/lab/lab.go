// Package lab puts a mail world together: a CA, name servers with the zones example.org and example.com, and an SMTP
// server, all on loopback addresses, with a configuration of mxcert that fits them.
//
// The rooms are open: tests set the faults of each server through the fields of Lab.
package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"
)

// The names that every lab has.
const (
	Zone      = "example.org." // mx and host7 are in it, both at 127.0.0.1, and mx is its MX host
	OtherZone = "example.com." // its MX host is mx.example.org
	KeyName   = "mxcert."      // of the TSIG key that may update both zones
)

const keyAlgorithm = "hmac-sha256."

// Options are the properties of a lab. The zero value is a lab on free ports in a temporary directory.
type Options struct {
	Directory   string        // for all files; default a temporary one, which Close removes
	CA          ca.Options    // Resolver is the primary name server unless it is set
	DNSListen   string        // address:port of the primary name server; default a free port of 127.0.0.1
	Secondaries int           // further authoritative servers, at 127.0.0.2 and on, which refuse updates
	DNSLag      time.Duration // updates become visible on all name servers this much later
	SMTPListen  string        // address:port; default a free port of 127.0.0.1
	Keys        []string      // key types of the certificate, in mxcert's words; default ec256
	Preload     bool          // the SMTP server loads its files once, and after Watch again
	Watch       time.Duration // see smtpd.Options
	Staple      string        // a file with an OCSP response that the SMTP server sends along, below tls; default none
	Signed      bool          // the zones are signed, and the name servers validate as resolvers
}

// Lab is a running mail world.
type Lab struct {
	Directory   string
	CA          *ca.CA
	World       *nameserver.World
	Primary     *nameserver.Server
	Secondaries []*nameserver.Server
	SMTP        *smtpd.Server

	opts    Options
	secret  string
	closers []func() error
}

// Start starts a lab; everything answers when it returns. The context bounds the start only.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	if len(opts.Keys) == 0 {
		opts.Keys = []string{"ec256"}
	}
	l := &Lab{Directory: opts.Directory, opts: opts, World: nameserver.New()}
	for _, step := range []func() error{l.makeDirectory, l.startDNS, l.startCA, l.startSMTP, l.writeFiles} {
		if err := errors.Join(ctx.Err(), step()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

func (l *Lab) makeDirectory() error {
	if l.Directory == "" {
		directory, err := os.MkdirTemp("", "mxcert-lab-")
		if err != nil {
			return fmt.Errorf("make the lab's directory: %v", err)
		}
		l.Directory = directory
		l.closers = append(l.closers, func() error { return os.RemoveAll(directory) })
	}
	absolute, err := filepath.Abs(l.Directory)
	if err != nil {
		return fmt.Errorf("find the lab's directory: %v", err)
	}
	l.Directory = absolute
	for _, sub := range []string{"tls", "credentials", "state", "hooks"} {
		if err := os.MkdirAll(l.Path(sub), 0o700); err != nil {
			return fmt.Errorf("make the lab's directory: %v", err)
		}
	}
	return nil
}

func (l *Lab) startDNS() error {
	listen := l.opts.DNSListen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	primary, err := l.World.Listen(listen)
	if err != nil {
		return err
	}
	l.Primary = primary
	l.closers = append(l.closers, primary.Close)
	for i := range l.opts.Secondaries {
		secondary, err := l.World.Listen(fmt.Sprintf("127.0.0.%d:0", i+2))
		if err != nil {
			return err
		}
		l.Secondaries = append(l.Secondaries, secondary)
		l.closers = append(l.closers, secondary.Close)
	}
	l.setDNSFaults()
	return l.fillZones()
}

func (l *Lab) startCA() error {
	opts := l.opts.CA
	if opts.Resolver == "" {
		opts.Resolver = l.Primary.Address()
	}
	authority, err := ca.Start(opts)
	if err != nil {
		return err
	}
	l.CA = authority
	l.closers = append(l.closers, authority.Close)
	return nil
}

func (l *Lab) startSMTP() error {
	opts := smtpd.Options{Listen: l.opts.SMTPListen, Preload: l.opts.Preload, Watch: l.opts.Watch}
	for _, key := range l.opts.Keys {
		certificate, privateKey := l.pair(key)
		pair := smtpd.Pair{Certificate: certificate, PrivateKey: privateKey}
		if l.opts.Staple != "" {
			pair.Staple = l.Path("tls", l.opts.Staple)
		}
		opts.Pairs = append(opts.Pairs, pair)
	}
	server, err := smtpd.Start(opts)
	if err != nil {
		return err
	}
	l.SMTP = server
	l.closers = append(l.closers, server.Close)
	return nil
}

// writeFiles writes the files to which the configuration points.
func (l *Lab) writeFiles() error {
	for name, content := range map[string][]byte{
		"ca.pem":           l.CA.HTTPSRoots(),
		"roots.pem":        l.CA.Roots(),
		"credentials/tsig": []byte(l.secret + "\n"),
	} {
		if err := os.WriteFile(l.Path(name), content, 0o600); err != nil {
			return fmt.Errorf("write the lab's files: %v", err)
		}
	}
	return nil
}

func newSecret() string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return base64.StdEncoding.EncodeToString(secret)
}

// Path is a file below the lab's directory.
func (l *Lab) Path(elements ...string) string {
	return filepath.Join(append([]string{l.Directory}, elements...)...)
}

// Secret is the base64 secret of the TSIG key KeyName, for hmac-sha256.
func (l *Lab) Secret() string { return l.secret }

// NameServers are the addresses of all name servers, the primary first.
func (l *Lab) NameServers() []string {
	addresses := []string{l.Primary.Address()}
	for _, secondary := range l.Secondaries {
		addresses = append(addresses, secondary.Address())
	}
	return addresses
}

// Close stops all servers, and removes the directory when the lab made it.
func (l *Lab) Close() error {
	var all []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		all = append(all, l.closers[i]())
	}
	l.closers = nil
	return errors.Join(all...)
}

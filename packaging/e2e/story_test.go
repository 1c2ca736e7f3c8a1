package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// story is one host of its own with mxcert on it, and an authority.
type story struct {
	*mailhost.Host
	t    *testing.T
	said strings.Builder // what mxcert printed
}

const (
	certificateFile = "/etc/exim4/exim.crt"
	keyFile         = "/etc/exim4/exim.key"
)

// hostConfig is the configuration of the README's first host, but for the addresses of this world.
const hostConfig = `acme:
  email: postmaster@example.org
  agree_tos: true
  directory: https://127.0.0.1:14000/dir
  ca_file: /etc/pebble/ca.pem
  roots_file: /etc/pebble/roots.pem
dns:
  provider: rfc2136
  env: {DNSUPDATE_NAMESERVER: "127.0.0.1:53", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_ALGORITHM: "hmac-sha256.", DNSUPDATE_TSIG_SECRET: "cred:tsig"}
  resolvers: ["127.0.0.1:53"]
  propagation: {timeout: 20s}
certificates:
  - name: mx
    domains: [mx.example.org, host7.example.org]
    deploy:
      - exim: {certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, unit: exim4.service, group: Debian-exim}
    verify: {endpoints: ["127.0.0.1:25", "[::1]:25"], timeout: 60s}
`

// options change what a story begins with.
type options struct {
	validity time.Duration // of certificates; 90 days where it is 0
	config   string        // hostConfig where it is ""
	service  bool          // units, the service's user and its rules too
	bare     bool          // without mxcert
	server   mailhost.Server
}

func begin(t *testing.T, o options) *story {
	t.Helper()
	mailhost.Require(t)
	if o.validity == 0 {
		o.validity = 90 * 24 * time.Hour
	}
	if o.config == "" {
		o.config = hostConfig
	}
	h, err := mailhost.Boot(t.Context(), mailhost.Options{Server: o.server})
	if err != nil {
		t.Fatal(err)
	}
	s := &story{Host: h, t: t}
	t.Cleanup(func() {
		s.secretsKept()
		if t.Failed() {
			t.Log(h.Diagnose())
		}
		h.Kill()
	})
	s.check(h.StartPebble(t.Context(), o.validity))
	if o.bare {
		return s
	}
	s.check(h.InstallMxcert(t.Context(), mailhost.Install{Config: o.config, Service: o.service}))
	s.check(h.Put("/etc/mxcert/credentials/tsig", []byte(h.TSIGSecret+"\n"), 0o600))
	if o.service {
		must(t, h, "sh", "-c", "chgrp mxcert /etc/mxcert/credentials/tsig && chmod 0640 /etc/mxcert/credentials/tsig")
	}
	return s
}

// in is the story in a test of its own.
func (s *story) in(t *testing.T) *story {
	part := &story{Host: s.Host, t: t}
	t.Cleanup(func() { s.said.WriteString(part.said.String()) })
	return part
}

func (s *story) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// mxcert runs one command in the host.
func (s *story) mxcert(args ...string) mailhost.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	result, err := s.Run(ctx, append([]string{"mxcert"}, args...)...)
	s.check(err)
	s.said.WriteString(result.Stdout + result.Stderr)
	s.t.Logf("mxcert %s: exit %d\n%s%s", strings.Join(args, " "), result.Code, result.Stderr, result.Stdout)
	return result
}

// report is what the stories read of `--json`; the names are the contract's.
type report struct {
	Changed      bool `json:"changed"`
	Certificates []struct {
		Name    string `json:"name"`
		LeftOut []struct {
			Name, Reason string
		} `json:"left_out"`
		Keys []struct {
			Serial string `json:"serial"`
			SPKI   string `json:"spki_sha256"`
			OCSP   *struct {
				Status, Kind string
			} `json:"ocsp"`
		} `json:"keys"`
		Stage     string `json:"stage"`
		Changed   bool   `json:"changed"`
		Endpoints []struct {
			Address string `json:"address"`
			Matches bool   `json:"matches"`
		} `json:"endpoints"`
		Error *struct {
			Stage, Kind, Message, Hint string
		} `json:"error"`
	} `json:"certificates"`
}

// report runs a command with --json; it must exit with the given code.
func (s *story) report(code int, args ...string) report {
	s.t.Helper()
	result := s.mxcert(append(args, "--json")...)
	if result.Code != code {
		s.t.Fatalf("mxcert %v: exit code %d, want %d", args, result.Code, code)
	}
	var r report
	if err := json.Unmarshal([]byte(result.Stdout), &r); err != nil || len(r.Certificates) != 1 {
		s.t.Fatalf("mxcert %v: no report (%v)", args, err)
	}
	return r
}

// served looks with openssl at both endpoints: the certificate of that serial, its chain verified to the authority's
// root, both names in it. It gives what was served.
func (s *story) served(serial string) {
	s.t.Helper()
	s.servedFrom(serial, mailhost.RootsFile)
}

// servedFrom is served with the root of an authority that may be gone.
func (s *story) servedFrom(serial, roots string) {
	s.t.Helper()
	s.servedAt(serial, roots, "127.0.0.1:25", "[::1]:25")
}

// servedAt is servedFrom with other endpoints.
func (s *story) servedAt(serial, roots string, addresses ...string) {
	s.t.Helper()
	for _, address := range addresses {
		var served mailhost.Served
		// Exim starts itself again when it has got the signal of a reload, and listens again a moment later.
		within(s.t, 20*time.Second, address+" takes connections", func() bool {
			var err error
			served, err = s.ServedBy(s.t.Context(), address, "mx.example.org", roots)
			if err != nil && strings.Contains(err.Error(), "Connection refused") {
				return false
			}
			s.check(err)
			return true
		})
		if served.Serial != serial {
			s.t.Errorf("%s serves serial %s, want %s", address, served.Serial, serial)
		}
		if served.VerifyCode != 0 || len(served.Chain) < 2 {
			s.t.Errorf("%s serves %d certificates; openssl says: %s", address, len(served.Chain), served.VerifyText)
		}
	}
}

// fileSerial asks openssl for the serial of the deployed file.
func (s *story) fileSerial(path string) string {
	s.t.Helper()
	out := must(s.t, s.Host, "openssl", "x509", "-in", path, "-noout", "-serial")
	_, serial, _ := strings.Cut(strings.TrimSpace(out), "=")
	return strings.ToLower(serial)
}

// noTXT asks BIND for the records that the challenges use.
func (s *story) noTXT() {
	s.t.Helper()
	for _, name := range []string{"mx.example.org", "host7.example.org"} {
		out := must(s.t, s.Host, "dig", "@127.0.0.1", "+short", "_acme-challenge."+name, "TXT")
		if strings.TrimSpace(out) != "" {
			s.t.Errorf("a TXT record is left at _acme-challenge.%s: %s", name, out)
		}
	}
}

// mark is everything that a run which does nothing must leave as it is.
type mark struct {
	certificate, key mailhost.Info
	pid, reloads     int
}

func (s *story) mark() mark {
	s.t.Helper()
	var m mark
	var err error
	m.certificate, err = s.Stat(certificateFile)
	s.check(err)
	m.key, err = s.Stat(keyFile)
	s.check(err)
	m.pid, err = s.EximPID()
	s.check(err)
	m.reloads, err = s.ReloadCount(s.t.Context(), "exim4.service")
	s.check(err)
	return m
}

func (m mark) String() string {
	return fmt.Sprintf("certificate %v inode %d, key %v inode %d, Exim %d, %d reloads", m.certificate.ModTime(), m.certificate.Inode,
		m.key.ModTime(), m.key.Inode, m.pid, m.reloads)
}

// orders counts the orders that the authority has seen, from its own log.
func (s *story) orders() int {
	s.t.Helper()
	log, err := s.Journal(s.t.Context(), "pebble.service", time.Time{})
	s.check(err)
	return strings.Count(log, "Added order")
}

// figure prints a number that a reader of the log looks for.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	fmt.Fprintf(os.Stdout, "figure: %s: %s\n", t.Name(), fmt.Sprintf(format, args...))
}

// within waits until a condition holds.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: not yet %s", limit, what)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

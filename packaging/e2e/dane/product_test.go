package dane

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

//go:embed hook.py
var hookProgram string

const configHead = `acme:
  email: postmaster@receiver.example
  agree_tos: true
  directory: https://127.0.0.1:14000/dir
  ca_file: /etc/pebble/ca.pem
  roots_file: /etc/pebble/roots.pem
  limits: none
dns:
  resolvers: ["127.0.0.1:53"]
  propagation: {timeout: 40s}
certificates:
`

// config is the configuration of mxcert for sites.
func config(sites []*site) string {
	var b strings.Builder
	b.WriteString(configHead)
	for _, s := range sites {
		if s.backend != "hand" {
			b.WriteString(s.config())
		}
	}
	return b.String()
}

func (s *site) config() string {
	mode, publisher := "publish", ""
	switch s.backend {
	case "gate", "check", "off":
		mode = `"` + s.backend + `"`
	case "hook":
		publisher = ", publisher: hook"
	case "powerdns":
		publisher = `, publisher: {powerdns: {url: "http://127.0.0.1:8081", key: "cred:pdns"}}`
	}
	var endpoints, ports []string
	for _, p := range s.ports {
		endpoints = append(endpoints, fmt.Sprintf("%q", fmt.Sprintf("%s:%d", s.address(), p)))
		ports = append(ports, fmt.Sprint(p))
	}
	return fmt.Sprintf(`  - name: %s
    domains: [%s]
    keys: [%s]
    dns:
      provider: rfc2136
      env: {DNSUPDATE_NAMESERVER: "%s:53", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_ALGORITHM: "hmac-sha256.", DNSUPDATE_TSIG_SECRET: "cred:tsig"}
    dane: {mode: %s, hold: %s, ttl: %ds, key_lifetime: 0, ports: [%s]%s%s}
    deploy:
      - exim: {combined: "/var/lib/mxcert-keys/{name}.{key}.{serial}.pem", sni_map: %s, unchecked: true, unit: exim4.service, reload: auto}
    verify: {endpoints: [%s], timeout: 60s}
`, s.name, strings.Join(s.names(), ", "), strings.Join(s.kinds, ", "), s.updates(), mode, s.hold, s.ttl, strings.Join(ports, ", "), publisher, s.dane,
		s.sniMap(), strings.Join(endpoints, ", "))
}

// install puts mxcert on the mail host, with a configuration for all sites, and starts nothing.
func (w *town) install() {
	w.t.Helper()
	ctx := w.t.Context()
	w.check(w.Mail.StartPebble(ctx, 90*24*time.Hour))
	w.check(w.Mail.InstallMxcert(ctx, mailhost.Install{Service: true}))
	w.check(w.Mail.Put("/etc/mxcert/credentials/tsig", []byte(tsigSecret+"\n"), 0o640))
	w.check(w.Mail.Put("/etc/mxcert/credentials/pdns", []byte(apiKey+"\n"), 0o640))
	w.check(w.Mail.Put("/etc/mxcert/hooks/tlsa.d/10-nsupdate", []byte(hookProgram), 0o755))
	w.check(w.Mail.Put("/etc/mxcert/hook.secret", []byte(tsigSecret+"\n"), 0o640))
	// A daemon that was killed comes back soon.
	w.check(w.Mail.Put("/etc/systemd/system/mxcert.service.d/soon.conf", []byte("[Service]\nRestart=always\nRestartSec=200ms\n"), 0o644))
	w.configure()
	// PowerDNS speaks plain HTTP, which mxcert accepts on the same host alone.
	w.must("sh", "-ec", "chgrp mxcert /etc/mxcert/credentials/* /etc/mxcert/hook.secret; systemctl daemon-reload; systemctl restart exim4; "+
		"systemd-run -q --unit=pdns-api --socket-property=ListenStream=127.0.0.1:8081 /lib/systemd/systemd-socket-proxyd "+pdnsPrimary+":8081")
}

// configure writes the configuration of all sites, and lets mxcert reload Exim.
func (w *town) configure() {
	w.t.Helper()
	w.check(w.Mail.Put("/etc/mxcert/mxcert.yaml", []byte(config(w.sites)), 0o644))
	w.must("mxcert", "check")
	w.must("mxcert", "polkit", "--install")
}

func (w *town) must(argv ...string) string {
	w.t.Helper()
	out, err := w.Mail.Must(w.t.Context(), argv...)
	w.check(err)
	return out
}

// mxcert runs a command on the mail host, which may fail.
func (w *town) mxcert(ctx context.Context, arguments ...string) mailhost.Result {
	ctx, cancel := context.WithTimeout(ctx, rollLimit)
	defer cancel()
	r, err := w.Mail.Run(ctx, append([]string{"mxcert"}, arguments...)...)
	if err != nil && ctx.Err() == nil {
		w.t.Errorf("mxcert %v: %v", arguments, err)
	}
	return r
}

// keys are what the mail host serves now, by key type.
func (w *town) keys(s *site) (keys map[string]string, err error) {
	keys = map[string]string{}
	for _, kind := range s.kinds {
		h := shakeHands(w.Sender, port{address: fmt.Sprintf("%s:%d", s.address(), s.ports[0]), name: s.names()[0]}, kind)
		if h.failed != "" {
			return nil, fmt.Errorf("%s, %s: %s", s.name, kind, h.failed)
		}
		keys[kind] = h.spki()
	}
	return keys, nil
}

// unsteady says what a site lacks of its steady state, from DNS and handshakes alone: at every name, every server gives the served key of
// each type, one more for each, and beside them only what is not of mxcert.
func (w *town) unsteady(s *site, foreign ...string) string {
	keys, err := w.keys(s)
	if err != nil {
		return err.Error()
	}
	for _, address := range s.servers() {
		for _, owner := range s.owners() {
			g, err := w.give(address, owner)
			if err != nil || !g.signed {
				return fmt.Sprintf("%s: %s: signed: %v, %v", address, owner, g.signed, err)
			}
			for kind, key := range keys {
				if !strings.Contains(g.set, "3 1 1 "+key) {
					return fmt.Sprintf("%s: %s lacks the served key of %s: %q", address, owner, kind, g.set)
				}
			}
			records := strings.Split(g.set, "; ")
			for _, f := range foreign {
				if !slices.Contains(records, f) {
					return fmt.Sprintf("%s: %s lacks the record of somebody else %s: %q", address, owner, f, g.set)
				}
			}
			if len(records) != 2*len(s.kinds)+len(foreign) {
				return fmt.Sprintf("%s: %s has %d records: %q", address, owner, len(records), g.set)
			}
		}
	}
	return ""
}

// awaitSteady waits for the steady state of a site.
func (w *town) awaitSteady(ctx context.Context, s *site, limit time.Duration, foreign ...string) error {
	return w.await(ctx, limit, s, func() string { return w.unsteady(s, foreign...) })
}

// awaitHeld waits for the steady state of a site, and until mxcert says so too: then a change of the key waits for nothing.
func (w *town) awaitHeld(ctx context.Context, s *site, limit time.Duration) error {
	if err := w.awaitSteady(ctx, s, limit); err != nil {
		return err
	}
	return w.await(ctx, limit, s, func() string {
		var all struct {
			Certificates []struct{ TLSA struct{ State string } }
		}
		if err := json.Unmarshal([]byte(w.mxcert(ctx, "status", s.name, "--json").Stdout), &all); err != nil || len(all.Certificates) != 1 {
			return fmt.Sprintf("%v, %v", err, all)
		}
		if state := all.Certificates[0].TLSA.State; state != "steady" {
			return "mxcert says " + state
		}
		return ""
	})
}

// await waits until a condition has nothing more to say.
func (w *town) await(ctx context.Context, limit time.Duration, s *site, lacks func() string) error {
	for deadline := time.Now().Add(limit); ; wait(ctx, time.Second) {
		what := lacks()
		if what == "" {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s, after %v: %s\n%s%s", s.name, limit, what, w.mxcert(ctx, "tlsa", "check", s.name).Stdout, w.mxcert(ctx, "status", s.name).Stdout)
		}
	}
}

// roll has mxcert change the keys of a site, and returns when the rollover is complete: other keys are served, and the records of those before
// are gone from every server.
func (w *town) roll(ctx context.Context, s *site, limit time.Duration, foreign ...string) error {
	before, err := w.keys(s)
	if err != nil {
		return err
	}
	if r := w.mxcert(ctx, "tlsa", "roll", s.name); !slices.Contains([]int{0, 75}, r.Code) {
		return fmt.Errorf("tlsa roll %s: exit status %d\n%s%s", s.name, r.Code, r.Stdout, r.Stderr)
	}
	return w.await(ctx, limit, s, func() string {
		after, err := w.keys(s)
		if err != nil {
			return err.Error()
		}
		for kind := range before {
			if before[kind] == after[kind] {
				return "the key of " + kind + " is still served"
			}
			if lacks := w.gone(s, before[kind]); lacks != "" {
				return lacks
			}
		}
		return w.unsteady(s, foreign...)
	})
}

// gone says which server still gives the record of a key.
func (w *town) gone(s *site, key string) string {
	for _, address := range s.servers() {
		for _, owner := range s.owners() {
			if g, err := w.give(address, owner); err != nil || strings.Contains(g.set, key) {
				return fmt.Sprintf("%s still gives the record of the old key at %s: %q, %v", address, owner, g.set, err)
			}
		}
	}
	return ""
}

// operator publishes what mxcert shows, and removes what it shows no more, as the manual page says, until the context ends: mode gate.
func (w *town) operator(ctx context.Context, s *site) {
	pipe := fmt.Sprintf("mxcert tlsa show %s --format nsupdate | tee /tmp/updates | nsupdate -y hmac-sha256:mxcert.:%s", s.name, tsigSecret)
	for said := ""; ctx.Err() == nil; wait(ctx, 2*time.Second) {
		r, err := w.Mail.Run(ctx, "bash", "-o", "pipefail", "-c", pipe)
		if text := fmt.Sprintf("%d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr); ctx.Err() == nil && text != said {
			said = text
			w.t.Logf("the operator of %s: %s", s.name, text)
		}
	}
}

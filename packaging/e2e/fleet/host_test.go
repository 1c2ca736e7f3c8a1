package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// A host is a mail host of the fleet.
type host struct {
	*mailhost.Host
	plug

	number int
	server mailhost.Server
	wire   *wire
}

// serverOf is what the hosts have: Exim, Exim, Postfix.
func serverOf(number int) mailhost.Server {
	if number == 3 {
		return mailhost.Postfix
	}
	return mailhost.Exim
}

const validator = `options {
	directory "/var/cache/bind"; listen-on { 127.0.0.1; }; listen-on-v6 { none; };
	recursion yes; allow-query { any; }; dnssec-validation yes; empty-zones-enable no; max-cache-ttl 1; max-ncache-ttl 0; qname-minimization off;
	resolver-query-timeout 4000;
};
zone "." { type hint; file "/etc/bind/hints"; };
trust-anchors {
%s};
`

const hints = ". 3600 NS ns1.example.org.\nns1.example.org. 3600 A " + townAddress + "\n"

// boot starts mail hosts, by their numbers, all at once, each with a resolver of its own that validates.
func (w *town) boot(numbers ...int) (booted []*host) {
	w.t.Helper()
	hosts, failed := make([]*host, len(numbers)), make([]error, len(numbers))
	var all sync.WaitGroup
	for i, number := range numbers {
		h := &host{number: number, server: serverOf(number), plug: plug{name: fmt.Sprintf("mx%d", number), address: fmt.Sprintf(hostAddress, number)}}
		hosts[i] = h
		all.Go(func() {
			h.Host, failed[i] = mailhost.Boot(w.t.Context(), mailhost.Options{Server: h.server, Files: []mailhost.File{
				{Path: "/etc/bind/named.conf", Content: fmt.Appendf(nil, validator, w.anchors), Mode: 0o644},
				{Path: "/etc/bind/hints", Content: []byte(hints), Mode: 0o644},
				// A daemon that was killed comes back soon.
				{Path: "/etc/systemd/system/mxcert.service.d/soon.conf", Content: []byte("[Service]\nRestart=always\nRestartSec=200ms\n"), Mode: 0o644},
			}})
			if failed[i] == nil {
				h.pid = h.Host.PID
			}
		})
	}
	all.Wait()
	for _, h := range hosts {
		if h.Host != nil {
			w.t.Cleanup(h.Kill)
			w.t.Cleanup(func() {
				if w.t.Failed() {
					w.t.Log(h.log())
				}
			})
		}
	}
	w.check(errors.Join(failed...))
	for _, h := range hosts {
		w.check(w.connect(w.t.Context(), &h.plug))
		h.wire = watch(w.t, h)
	}
	return hosts
}

// log is what mxcert said on a host, and what the host has to say of it.
func (h *host) log() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := h.Run(ctx, "sh", "-c", "journalctl --no-pager -o short-precise -u mxcert > /tmp/log; sed -n 1,120p /tmp/log; sed 1,120d /tmp/log | tail -n 150; timeout 9 mxcert fleet status")
	return fmt.Sprintf("--- %s: %v\n%s%s", h.name, err, r.Stdout, r.Stderr)
}

// ageKey makes an identity as an operator does, and returns it with its recipient.
func (w *town) ageKey() (identity, recipient string) {
	w.t.Helper()
	out, err := w.members[0].Must(w.t.Context(), "age-keygen")
	w.check(err)
	for line := range strings.Lines(out) {
		if _, found, ok := strings.Cut(strings.TrimSpace(line), "# public key: "); ok {
			recipient = found
		}
	}
	if recipient == "" || !strings.Contains(out, "AGE-SECRET-KEY-1") {
		w.t.Fatalf("age-keygen says %q", out)
	}
	return out, recipient
}

const configHead = `acme:
  email: postmaster@example.org
  agree_tos: true
  directory: https://` + townAddress + `:14000/dir
  ca_file: /etc/pebble/ca.pem
  roots_file: /etc/pebble/roots.pem
  limits: none
dns:
  provider: rfc2136
  env: {DNSUPDATE_NAMESERVER: "` + townAddress + `:53", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_ALGORITHM: "hmac-sha256.", DNSUPDATE_TSIG_SECRET: "cred:tsig"}
  resolvers: ["127.0.0.1:53"]
  propagation: {timeout: 20s}
`

// config is the configuration of a host: a section fleet, and one certificate for the names of all hosts.
func (w *town) config(h *host) string {
	var endpoints []string
	for _, e := range w.endpoints() {
		endpoints = append(endpoints, fmt.Sprintf("%q", e))
	}
	target := "exim: {certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, unit: exim4.service, group: Debian-exim}"
	if h.server == mailhost.Postfix {
		target = "postfix: {certificate: /etc/postfix/tls/mx.crt, private_key: /etc/postfix/tls/mx.key}"
	}
	return configHead + fmt.Sprintf(`fleet:
  name: berlin
  host: %s
  identity: "cred:age"
  recipients: [%s]
  etcd: {endpoints: [%s], ca_file: /etc/mxcert/fleet/ca.pem, certificate: /etc/mxcert/fleet/%s.pem, private_key: "cred:etcd"}
certificates:
  - name: mx
    domains: [mx1.example.org, mx2.example.org, mx3.example.org]
    deploy:
      - %s
    verify: {endpoints: ["127.0.0.1:25"], timeout: 60s}
`, h.name, strings.Join(w.all, ", "), strings.Join(endpoints, ", "), h.name, target)
}

// makeKeys makes an identity for each host, and the recovery key.
func (w *town) makeKeys(names ...string) {
	w.t.Helper()
	for _, name := range append(names, "recovery") {
		var recipient string
		w.identity[name], recipient = w.ageKey()
		w.all = append(w.all, recipient)
	}
}

// install puts mxcert on a host, with its identity and its certificate for etcd, and starts nothing.
func (w *town) install(h *host) {
	w.t.Helper()
	ctx := w.t.Context()
	client := w.ca.issue(h.name, 24*time.Hour)
	w.check(h.InstallMxcert(ctx, mailhost.Install{Service: true}))
	for path, text := range map[string]string{
		"/etc/pebble/ca.pem": string(w.ca.root()), "/etc/pebble/roots.pem": w.roots(), "/etc/mxcert/fleet/ca.pem": string(w.ca.root()),
		"/etc/mxcert/fleet/" + h.name + ".pem": string(client.certificate), "/etc/mxcert/mxcert.yaml": w.config(h),
	} {
		w.check(h.Put(path, []byte(text), 0o644))
	}
	for name, secret := range map[string]string{"tsig": tsigSecret + "\n", "age": w.identity[h.name], "etcd": string(client.key)} {
		w.check(h.PutFile(mailhost.File{Path: "/etc/mxcert/credentials/" + name, Content: []byte(secret), Mode: 0o640, Owner: "root:mxcert"}))
	}
	w.must(h, "mxcert", "check")
	w.must(h, "mxcert", "polkit", "--install")
	w.must(h, "systemctl", "daemon-reload")
}

func (w *town) must(h *host, argv ...string) string {
	w.t.Helper()
	out, err := h.Must(w.t.Context(), argv...)
	w.check(err)
	return out
}

// mxcert runs a command on a host, which may fail.
func (w *town) mxcert(h *host, arguments ...string) mailhost.Result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	r, err := h.Run(ctx, append([]string{"mxcert"}, arguments...)...)
	w.check(err)
	return r
}

// decode reads what a command with --json printed, whatever its exit code.
func (w *town) decode(r mailhost.Result, into any) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(r.Stdout), into); err != nil {
		w.t.Fatalf("exit status %d: %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
}

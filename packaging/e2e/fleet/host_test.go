package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
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
		listening := w.listening(h.server)
		all.Go(func() {
			h.Host, failed[i] = mailhost.Boot(w.t.Context(), mailhost.Options{Server: h.server, Files: []mailhost.File{
				{Path: "/etc/bind/named.conf", Content: fmt.Appendf(nil, validator, w.anchors), Mode: 0o644},
				{Path: "/etc/bind/hints", Content: []byte(hints), Mode: 0o644},
				listening,
				// A daemon that was killed comes back soon.
				{Path: "/etc/systemd/system/mxcert.service.d/soon.conf", Content: []byte("[Service]\nRestart=always\nRestartSec=200ms\n"), Mode: 0o644},
			}})
			if failed[i] == nil {
				h.pid = h.PID
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

// log is what mxcert says of the fleet, what it said before, and what it was at: the stacks of its goroutines.
func (h *host) log() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := h.Run(ctx, "sh", "-c", "timeout 9 mxcert fleet status; journalctl --no-pager -o short-precise -u mxcert | head -n 400; systemctl kill -s QUIT mxcert; sleep 1; journalctl --no-pager -o cat -u mxcert | grep -A10000 SIGQUIT | head -n 700")
	return fmt.Sprintf("--- %s: %v\n%s%s", h.name, err, r.Stdout, r.Stderr)
}

// listening is the mail server's configuration of mailhost, but for its addresses: here they are all.
func (w *town) listening(server mailhost.Server) mailhost.File {
	path, old, with := "/etc/exim4/update-exim4.conf.conf", "dc_local_interfaces='127.0.0.1 ; ::1'", "dc_local_interfaces='0.0.0.0 ; ::1'"
	if server == mailhost.Postfix {
		path, old, with = "/etc/postfix/main.cf", "inet_interfaces = loopback-only", "inet_interfaces = all"
	}
	text, err := os.ReadFile("../mailhost/world-" + string(server) + path)
	w.check(err)
	return mailhost.File{Path: path, Content: []byte(replace(old, with)(string(text))), Mode: 0o644}
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
	dane := ""
	if w.dane {
		dane = daneConfig
	}
	return configHead + fmt.Sprintf(`fleet:
  name: berlin
  host: %s
  identity: "cred:age"
  recipients: [%s]
  etcd: {endpoints: [%s], ca_file: /etc/mxcert/etcd-ca.pem, certificate: /etc/mxcert/etcd.pem, private_key: "cred:etcd"}
certificates:
  - name: mx
    domains: [mx1.example.org, mx2.example.org, mx3.example.org]
    deploy:
      - %s
    verify: {endpoints: ["127.0.0.1:25"], timeout: 60s}
%s`, h.name, strings.Join(w.all, ", "), strings.Join(endpoints, ", "), target, dane)
}

// install puts mxcert on hosts, each with its certificate for etcd and an identity that is made by the commands of the README, and starts nothing.
func (w *town) install(hosts ...*host) {
	w.t.Helper()
	keygen, err := w.members[0].Read("/usr/bin/age-keygen") // Debian's
	w.check(err)
	for _, h := range hosts {
		w.check(h.InstallMxcert(w.t.Context(), mailhost.Install{Service: true}))
		client := w.ca.clients[h.name]
		for path, text := range map[string]string{
			"/etc/pebble/ca.pem": string(w.ca.root()), "/etc/pebble/roots.pem": w.roots(),
			"/etc/mxcert/etcd-ca.pem": string(w.ca.root()), "/etc/mxcert/etcd.pem": string(client.certificate),
		} {
			w.check(h.Put(path, []byte(text), 0o644))
		}
		w.check(h.Put("/usr/bin/age-keygen", []byte(keygen), 0o755))
		w.secret(h, "tsig", []byte(tsigSecret+"\n"))
		w.secret(h, "etcd", client.key)
		w.all = append(w.all, strings.TrimSpace(w.run(h, w.readme("age", nil))))
	}
}

// secret gives a host a secret.
func (w *town) secret(h *host, name string, text []byte) {
	w.t.Helper()
	w.check(h.PutFile(mailhost.File{Path: "/etc/mxcert/credentials/" + name, Content: text, Mode: 0o640, Owner: "root:mxcert"}))
}

// recovery makes the recovery key.
func (w *town) recovery() {
	w.t.Helper()
	w.all = append(w.all, strings.TrimSpace(w.run(w.members[0].Host, "umask 077; age-keygen >/root/recovery 2>/dev/null; age-keygen -y /root/recovery")))
}

// configure writes the configuration of hosts.
func (w *town) configure(hosts ...*host) {
	w.t.Helper()
	for _, h := range hosts {
		w.check(h.Put("/etc/mxcert/mxcert.yaml", []byte(w.config(h)), 0o644))
		w.must(h, "mxcert", "check")
		w.must(h, "mxcert", "polkit", "--install")
	}
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

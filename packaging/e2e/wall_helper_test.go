package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// What mxcert asks of the two programs of root.

// pair is a certificate with its chain, and its key.
type pair struct {
	Chain string `json:"chain"`
	Key   string `json:"key"`
}

// forged makes a certificate for these names: signed by itself, or by a CA of the attacker's.
func (w *walled) forged(life time.Duration, ownCA bool, names ...string) pair {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "mx"}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	issuer, issuerKey, chain := leaf, key, ""
	if ownCA {
		issuerKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		w.check(err)
		issuer = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of nobody's"}, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)
		w.check(err)
		chain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), issuerKey)
	w.check(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	w.check(err)
	return pair{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + chain, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))}
}

// orderHelper sends orders to a helper over one connection, as mxcert, and gives the answers.
func (w *walled) orderHelper(kind string, orders ...any) (answers []string) {
	w.t.Helper()
	var lines []string
	for _, order := range orders {
		text, err := json.Marshal(order)
		w.check(err)
		lines = append(lines, string(text))
	}
	r, err := w.RunInput(w.t.Context(), strings.Join(lines, "\n")+"\n", "setpriv", "--reuid=mxcert", "--regid=mxcert", "--init-groups", "--", "python3", "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/mxcert-helpers/%s.sock" % sys.argv[1])
answers = s.makefile()
for line in sys.stdin:
    s.sendall(line.encode())
    print(answers.readline().strip())`, kind)
	w.check(err)
	if r.Code != 0 {
		w.t.Fatalf("the orders cannot be sent: %s", r.Stderr)
	}
	w.said.WriteString(r.Stdout)
	w.t.Logf("%s", r.Stdout)
	return strings.Split(strings.TrimSpace(r.Stdout), "\n")
}

type fields = map[string]any

// install has the install helper plan and apply pairs.
func (w *walled) install(name string, pairs ...pair) (planned, applied string) {
	w.t.Helper()
	answers := w.orderHelper("install", fields{"verb": "plan", "name": name, "bundles": pairs}, fields{"verb": "apply", "name": name})
	if len(answers) != 2 {
		return answers[0], `{"error":"no answer"}`
	}
	return answers[0], answers[1]
}

// certbotHook is as an operator has written it for certbot: names and files are what it is told.
const certbotHook = `#!/bin/sh
env >>/root/hook-environment
for domain in $RENEWED_DOMAINS; do cp -L "$RENEWED_LINEAGE/fullchain.pem" "/srv/hooked/$domain"; done
`

// A hook of root's sees no name, path or text of the attacker's.
func hookOrdersLie(w *walled) {
	w.check(w.Put("/etc/mxcert/hooks/deploy.d/50-certbot", []byte(certbotHook), 0o755))
	must(w.t, w.Host, "sh", "-c", "mkdir -p /srv/hooked; : >/root/hook-environment")
	unchanged := w.watch(append(targets, "/srv/hooked", "/srv/hooked/mx.example.org", "/srv/hooked/host7.example.org", "/root/hook-environment")...)
	good := w.forged(time.Hour, false, "mx.example.org", "../../etc/cron.d/mxpwn", "$(id)")
	for _, lie := range []fields{
		{"domains": []string{"../../etc/cron.d/mxpwn"}}, {"serial": "$(id)"}, {"fullchain": "/etc/shadow"}, {"fullchain_path": "/etc/shadow"}, {"lineage": "/root"}, {"not_after": "x"},
		{"name": "../mx"}, {"name": "mx\nX=1"}, {"name": ""}, {"event": "../../root"}, {"event": "deploy.d"}, {"event": "deploy", "bundle": pair{"/etc/shadow", "/etc/shadow"}},
		{"bundle": w.forged(time.Hour, false, "../../etc/cron.d/mxpwn")}, {"bundle": w.forged(-time.Minute, false, "mx.example.org")}, {"bundle": pair{good.Chain, ""}},
	} {
		order := fields{"event": "deploy", "name": "mx", "changed": true, "bundle": good}
		for key, value := range lie {
			order[key] = value
		}
		if answers := w.orderHelper("hook", order); !strings.Contains(answers[0], `"error":{`) {
			w.t.Errorf("%v: %v", lie, answers)
		}
	}
	if text := must(w.t, w.Host, "cat", "/root/hook-environment"); text != "" {
		w.t.Errorf("the hook has run for a lie:\n%s", text)
	}
	// The order that says the truth runs the hook, which sees the configured names and a copy.
	if answers := w.orderHelper("hook", fields{"event": "deploy", "name": "mx", "changed": true, "bundle": good}); !strings.Contains(answers[0], `"outcomes":[{`) {
		w.t.Errorf("%v", answers)
	}
	text := must(w.t, w.Host, "cat", "/root/hook-environment")
	for _, evil := range []string{"mxpwn", "$(id)", "RENEWED_LINEAGE=/var/lib/mxcert", "canary"} {
		if strings.Contains(text, evil) {
			w.t.Errorf("the hook sees %s:\n%s", evil, text)
		}
	}
	if got := must(w.t, w.Host, "ls", "/srv/hooked"); got != "host7.example.org\nmx.example.org\n" {
		w.t.Errorf("the hook has written %q", got)
	}
	// The service's own way to the hook: its files are links to what root reads.
	w.does(current + `ln -sf ` + precious + `/secret "$g/fullchain.pem"`)
	w.root(-1, "renew", "--now", "mx")
	unchanged()
	must(w.t, w.Host, "rm", "-r", "/etc/mxcert/hooks/deploy.d", "/srv/hooked")
	w.converged()
}

// A journal entry of the attacker's goes to no program of the operator's, and removes no record of somebody else's.
func journalLies(w *walled) {
	w.check(w.Put("/usr/local/sbin/dns-script", []byte("#!/bin/sh\necho \"$@\" >>/tmp/dns-arguments\n"), 0o755))
	before, after, _ := strings.Cut(hostConfig, "  provider: rfc2136\n")
	_, after, _ = strings.Cut(after, "\n")
	w.check(w.Put("/etc/mxcert/exec.yaml", []byte(before+"  provider: exec\n  env: {EXEC_PATH: /usr/local/sbin/dns-script}\n"+after), 0o644))
	unchanged := w.watch(targets...)
	must(w.t, w.Host, "sh", "-c", `printf 'update add _dmarc.example.org 60 TXT "v=DMARC1"\nsend\n' | nsupdate -l`)
	for i, record := range []fields{
		{"domain": "../../etc/cron.d/x", "name": "$(id).example.org."}, {"domain": "-rf.example.org", "name": "--help.example.org."}, {"domain": "mx.example.org", "name": "a\n.example.org."},
		{"domain": "example.org", "name": "_dmarc.example.org.", "value": "v=DMARC1"},
	} {
		for key, value := range map[string]string{"zone": "example.org.", "value": "v", "token": "t", "key_auth": "k"} {
			if record[key] == nil {
				record[key] = value
			}
		}
		for _, provider := range []string{"exec", "rfc2136"} {
			for _, lineage := range []string{"mx", "gone"} {
				text, err := json.Marshal(fields{"version": 1, "lineage": lineage, "provider": provider, "records": []fields{record}})
				w.check(err)
				w.does(`printf %s "$1" >/var/lib/mxcert/journal/$2`, string(text), fmt.Sprintf("%s.20260101T000000000Z-%04x%04x.json", lineage, i, len(provider)))
			}
		}
	}
	w.root(-1, "-c", "/etc/mxcert/exec.yaml", "renew", "mx")
	w.root(-1, "renew", "mx")
	if r, err := w.Run(w.t.Context(), "cat", "/tmp/dns-arguments"); err != nil || strings.ContainsAny(r.Stdout, "$-/") {
		w.t.Errorf("the script was told %q (%v)", r.Stdout, err)
	}
	if out := must(w.t, w.Host, "dig", "@127.0.0.1", "+short", "_dmarc.example.org", "TXT"); !strings.Contains(out, "DMARC1") {
		w.t.Error("a record of somebody else's was removed")
	}
	unchanged()
	w.does(`rm -f /var/lib/mxcert/journal/*`)
	w.converged()
}

// A directory on the way to a configured path is a link to that of another service's key.
func directoryIsExchanged(w *walled) {
	must(w.t, w.Host, "sh", "-ec", `mkdir -m 0700 /srv/other; cp `+certificateFile+` /srv/other/fullchain.pem; cp `+keyFile+` /srv/other/privkey.pem; mkdir -m 0755 /srv/open; cp -p /srv/other/* /srv/open`)
	unchanged := w.watch(targets...)
	for _, other := range []string{"/srv/other", "/srv/open", "/etc/exim4", "/root"} {
		w.does(`cd /var/lib/mxcert-keys; mv sub sub.real; ln -s $1 sub`, other)
		planned, applied := w.install("sub", w.forged(time.Hour, false, "sub.example.org")) // the helper leaves it to the service
		if !strings.Contains(planned, `"changes":[]`) || !strings.Contains(planned, `"left":["/var/lib/mxcert-keys/sub/`) {
			w.t.Errorf("%s: %s\n%s", other, planned, applied)
		}
		w.root(-1, "deploy", "sub")
		w.does(`cd /var/lib/mxcert-keys; rm sub; mv sub.real sub`)
	}
	unchanged()
	w.converged()
}

// Names of a certificate that the configuration does not have get no line in a map of root's.
func foreignNamesInAMap(w *walled) {
	unchanged := w.watch(targets...)
	planned, applied := w.install("map", w.forged(time.Hour, false, "map.example.org", "imap.other.test", "a.test: /etc/shadow\nevil.test", "*"))
	text := must(w.t, w.Host, "cat", "/etc/exim4/tls/sni.map")
	if !strings.Contains(text, "map.example.org: /etc/exim4/tls/map.") || strings.Contains(text, "test") || strings.Contains(text, "shadow") || strings.Count(text, "\n") != 2 {
		w.t.Errorf("the map is\n%s\n%s\n%s", text, planned, applied)
	}
	unchanged()
	w.root(0, "deploy", "map")
	w.converged()
}

// A certificate of a CA that nobody trusts, valid for a hundred years, is in service: a renewal takes its place.
func longLivedCertificate(w *walled) {
	planned, applied := w.install("mx", w.forged(100*365*24*time.Hour, true, "mx.example.org", "host7.example.org"))
	if strings.Contains(planned+applied, `"error"`) {
		w.t.Errorf("%s\n%s", planned, applied)
	}
	must(w.t, w.Host, "systemctl", "reload", "exim4.service")
	within(w.t, 10*time.Second, "it is served", func() bool {
		served, err := w.ServedBy(w.t.Context(), "127.0.0.1:25", "mx.example.org", "")
		return err == nil && strings.Contains(served.Output, "CA of nobody's")
	})
	w.root(0, "renew", "--now", "mx")
	served, err := w.ServedBy(w.t.Context(), "127.0.0.1:25", "mx.example.org", "/etc/pebble/roots.pem")
	w.check(err)
	if served.VerifyCode != 0 {
		w.t.Errorf("still served: %s", served.Output)
	}
}

// The attacker takes all connections of both helpers, and wants more. All is well when they are given back.
func allConnectionsAreTaken(w *walled) {
	unchanged := w.watch(targets...)
	must(w.t, w.Host, "systemd-run", "-q", "--unit=holder", "--uid=mxcert", "python3", "-c", `
import socket, time
held = []
for kind in ("install", "hook"):
    for i in range(150):
        s = socket.socket(socket.AF_UNIX); s.settimeout(2)
        try:
            s.connect("/run/mxcert-helpers/%s.sock" % kind)
            s.sendall([b"", b"{", b"{\"bundles\":[" + b"{}," * 50000, b"x" * 100000][i % 4])
        except OSError: pass
        held.append(s)
open("/tmp/held", "w")
time.sleep(100)`)
	within(w.t, 60*time.Second, "all are taken", func() bool {
		r, err := w.Run(w.t.Context(), "test", "-e", "/tmp/held")
		return err == nil && r.Code == 0
	})
	for kind, unit := range map[string]string{"install": "mxcert-install@*.service", "hook": "mxcert-hook@*.service"} {
		n := strings.Count(must(w.t, w.Host, "systemctl", "list-units", "--no-legend", "--plain", unit), "\n")
		figure(w.t, "%d helpers of kind %s for 150 connections", n, kind)
		if n > 64 {
			w.t.Errorf("%d helpers of kind %s", n, kind)
		}
	}
	w.root(-1, "deploy", "mx")
	must(w.t, w.Host, "systemctl", "stop", "holder.service")
	must(w.t, w.Host, "rm", "/tmp/held")
	unchanged()
	within(w.t, 40*time.Second, "no helper is left", func() bool {
		return strings.TrimSpace(must(w.t, w.Host, "sh", "-c", "systemctl list-units --all 'mxcert-*@*' --no-legend --plain | wc -l")) == "0"
	})
	if got := strings.TrimSpace(must(w.t, w.Host, "systemctl", "is-active", "mxcert-install.socket", "mxcert-hook.socket")); got != "active\nactive" {
		w.t.Errorf("the sockets are %q", got)
	}
	w.converged()
}

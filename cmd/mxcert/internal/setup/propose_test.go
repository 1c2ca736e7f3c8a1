package setup

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// issued writes a pair of files with a certificate of a CA.
func issued(t *testing.T, dir, name string, kind string) deploy.Pair {
	t.Helper()
	var key any
	var public any
	switch kind {
	case "rsa":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, k.Public()
	default:
		curve := elliptic.P256()
		if kind == "ec384" {
			curve = elliptic.P384()
		}
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, k.Public()
	}
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template("mx.example.org"), template("a CA"), public, issuer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := deploy.Pair{Certificate: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{pair.Certificate: {Type: "CERTIFICATE", Bytes: der}, pair.Key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}

func running(kind string, pairs ...deploy.Pair) Server {
	return Server{Kind: kind, Unit: unitOf(kind), Pairs: pairs, reading: discover.Reading{Kind: kind, Pairs: pairs}}
}

// A server keeps its paths and its types of key. It gets new paths if those are of another program, a link, or in no directory.
func TestPropose(t *testing.T) {
	dir := t.TempDir()
	ec, rsaPair, large := issued(t, dir, "ec", "ec256"), issued(t, dir, "rsa", "rsa"), issued(t, dir, "big", "ec384")
	link := deploy.Pair{Certificate: filepath.Join(dir, "link.crt"), Key: filepath.Join(dir, "link.key")}
	for to, from := range map[string]string{ec.Certificate: link.Certificate, ec.Key: link.Key} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	lego := filepath.Join(dir, ".lego", "certificates")
	if err := os.MkdirAll(lego, 0o755); err != nil {
		t.Fatal(err)
	}
	other := issued(t, lego, "mx", "rsa")
	absent := deploy.Pair{Certificate: filepath.Join(dir, "new.crt"), Key: filepath.Join(dir, "new.key")}
	both := onePair(filepath.Join(dir, "both.pem"), filepath.Join(dir, "both.pem"))[0]
	for _, tt := range []struct {
		what    string
		servers []Server
		keys    string
		paths   string // of the keys, by their last parts
	}{
		{"nothing yet", []Server{running(postfix)}, "ec256", "mx.pem"},
		{"ECDSA", []Server{running(postfix, ec)}, "ec256", "ec.key"},
		{"RSA", []Server{running(dovecot, rsaPair)}, "rsa2048", "rsa.key"},
		{"P-384", []Server{running(dovecot, large)}, "ec384", "big.key"},
		{"both types", []Server{running(postfix, rsaPair, ec)}, "ec256 rsa2048", "ec.key rsa.key"},
		{"both types, and a server with one", []Server{running(postfix, rsaPair, ec), running(dovecot, rsaPair)}, "ec256 rsa2048", "ec.key rsa.key|mx.ec256.key mx.rsa2048.key"},
		{"the same files", []Server{running(postfix, ec), running(dovecot, ec)}, "ec256", "ec.key|ec.key"},
		{"files that are not there yet", []Server{running(postfix, absent)}, "ec256", "new.key"},
		{"one file that is not there yet", []Server{running(postfix, both)}, "ec256", "both.pem"},
		{"links", []Server{running(dovecot, link)}, "ec256", "mx.key"},
		{"lego's", []Server{running(dovecot, other)}, "rsa2048", "mx.key"},
		{"certbot's", []Server{running(postfix, onePair("/etc/letsencrypt/live/mx/fullchain.pem", "/etc/letsencrypt/live/mx/privkey.pem")...)}, "ec256", "mx.pem"},
		{"ssl-cert's", []Server{running(postfix, onePair("/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key")...)}, "ec256", "mx.pem"},
		{"no directory", []Server{running(postfix, onePair("/no/such/mx.crt", "/no/such/mx.key")...)}, "ec256", "mx.pem"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			keys := keysOf(tt.servers)
			var paths []string
			for _, target := range propose(tt.servers, keys) {
				var list []string
				for _, pair := range target.Pairs {
					list = append(list, filepath.Base(pair.Key))
				}
				paths = append(paths, strings.Join(list, " "))
			}
			if strings.Join(keys, " ") != tt.keys || strings.Join(paths, "|") != tt.paths {
				t.Errorf("keys %v, paths %q; want %s, %s", keys, paths, tt.keys, tt.paths)
			}
		})
	}
}

// The target that gives the files a group comes first, and the other one says nothing about it.
func TestArrange(t *testing.T) {
	shared := onePair("/etc/ssl/mail/mx.crt", "/etc/ssl/mail/mx.key")
	targets := []Target{{Kind: dovecot, Pairs: shared}, {Kind: exim, Pairs: shared, Group: "Debian-exim"}}
	arrange(targets)
	if targets[0].Kind != exim || targets[1].Group != "" || targets[0].Group == "" {
		t.Errorf("%+v", targets)
	}
}

// A program that mxcert does not know is named, with its ports and a target for it.
func TestOthers(t *testing.T) {
	h := Host{}
	h.others([]discover.Listener{
		{Address: netip.MustParseAddrPort("0.0.0.0:465"), PID: 12, Program: "stunnel4", Unit: "stunnel4.service"}, {Address: netip.MustParseAddrPort("0.0.0.0:993"), PID: 12, Program: "stunnel4", Unit: "stunnel4.service"},
		{Address: netip.MustParseAddrPort("0.0.0.0:25"), PID: 7, Program: "exim4", Kind: exim}, {Address: netip.MustParseAddrPort("0.0.0.0:110")},
	})
	if len(h.Notes) != 1 || !strings.Contains(h.Notes[0], "something else listens on 465, 993: stunnel4 (process 12, stunnel4.service)") || !strings.Contains(h.Notes[0], "unit: stunnel4.service}`") || !strings.Contains(h.Notes[0], `"127.0.0.1:465"`) {
		t.Errorf("%q", h.Notes)
	}
}

// All files are written, or none.
func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list := []file{{path: old, text: "after\n", mode: 0o640, uid: -1, gid: -1, keep: true}, {path: filepath.Join(dir, "new"), text: "x\n", mode: 0o644, uid: -1, gid: -1}}
	if written, err := writeAll(append(slices.Clone(list), file{path: filepath.Join(dir, "no", "such"), uid: -1, gid: -1})); err == nil || len(written) != 0 || read(t, old) != "before\n" || mode(t, old) != 0o600 {
		t.Errorf("%v, %v, %q", written, err, read(t, old))
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
		t.Error("a new file stays")
	}
	written, err := writeAll(list)
	if err != nil || len(written) != 2 || !strings.Contains(written[0], "old (the file before is ") || read(t, old) != "after\n" || read(t, old+".old") != "before\n" {
		t.Errorf("%v, %v", written, err)
	}
	if written, err := writeAll(list); err != nil || len(written) != 0 {
		t.Errorf("nothing has changed: %v, %v", written, err)
	}
}

// Whatever layout the server reads now, the copy has the layout of the new paths.
func TestProvide(t *testing.T) {
	dir := t.TempDir()
	now := issued(t, dir, "now", "rsa")
	text := read(t, now.Key) + read(t, now.Certificate)
	combined := onePair(filepath.Join(dir, "now.pem"), filepath.Join(dir, "now.pem"))[0]
	if err := os.WriteFile(combined.Key, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, from := range []deploy.Pair{now, combined} {
		to := filepath.Join(dir, string(rune('a'+i)))
		want := []deploy.Pair{{Certificate: to + ".crt", Key: to + ".key"}, {Certificate: to + ".pem", Key: to + ".pem"}}
		made, err := provide(want, []deploy.Pair{from, from}, []string{"mx.example.org"}, "")
		if err != nil || len(made) != 2 || read(t, to+".crt") != read(t, now.Certificate) || read(t, to+".key") != read(t, now.Key) || read(t, to+".pem") != text {
			t.Errorf("%v: %q, %v", from, made, err)
		}
	}
}

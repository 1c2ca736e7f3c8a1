package resolve_test

import (
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
)

// real is a world of signed zones on real servers: a root and its children, and Unbound, which has only the key of that root.
type real struct {
	dir           string
	authoritative string // "address:port" of the server of all zones
	unbound       string
	files         map[string]string // of the zones
}

// signedTexts are the zones below the root, before they are signed.
var signedTexts = map[string]string{
	"signed": `ns A 127.0.0.1
mx A 192.0.2.1
mx AAAA 2001:db8::1
@ MX 10 mx
www CNAME mx
out CNAME mx.plain.
tree DNAME mx.signed.
far DNAME plain.
x.mx A 192.0.2.7
*.wild TLSA 3 1 1 00
*.wildalias CNAME mx
ent.below A 192.0.2.8
big TXT ` + strings.Repeat(`"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" `, 30) + `
_25._tcp.good TLSA 3 1 1 00
_25._tcp.good TLSA 3 1 2 01
_25._tcp.expired TLSA 3 1 1 00
_25._tcp.future TLSA 3 1 1 00
_25._tcp.wrong TLSA 3 1 1 00
_25._tcp.broken TLSA 3 1 1 00
_25._tcp.stripped TLSA 3 1 1 00
_25._tcp.alias CNAME _25._tcp.good
`,
	"plain":    "ns A 127.0.0.1\nmx A 192.0.2.2\nin CNAME mx.signed.\n_25._tcp.mx TLSA 3 1 1 00\n",
	"expired":  "ns A 127.0.0.1\nmx A 192.0.2.3\n",
	"future":   "ns A 127.0.0.1\nmx A 192.0.2.3\n",
	"nods":     "ns A 127.0.0.1\nmx A 192.0.2.3\n",
	"otherds":  "ns A 127.0.0.1\nmx A 192.0.2.3\n",
	"stripped": "ns A 127.0.0.1\nmx A 192.0.2.3\n",
	"hashed":   "ns A 127.0.0.1\nmx A 192.0.2.4\nchild NS ns\nkid NS ns\n",
}

// signingOf has the options of dnssec-signzone that are not the usual ones.
var signingOf = map[string][]string{
	"expired": {"-s", "20250101000000", "-e", "20250201000000"},
	"future":  {"-s", "20400101000000", "-e", "20410201000000"},
	"hashed":  {"-3", "-", "-H", "0", "-A"},
}

// realWorld starts the world with one of the servers.
func realWorld(t *testing.T, server string) *real {
	t.Helper()
	for pkg, program := range map[string]string{"bind9-utils": "dnssec-signzone", "unbound": "unbound"} {
		if _, err := exec.LookPath(program); err != nil {
			requireOrSkip(t, "the Debian package "+pkg+" is needed: "+err.Error())
		}
	}
	w := &real{dir: t.TempDir()}
	root := ""
	for zone, text := range signedTexts {
		w.write(t, zone, "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\n"+text)
		root += fmt.Sprintf("%s NS ns.%s.\nns.%[1]s A 127.0.0.1\n", zone, zone)
		if zone != "plain" {
			w.sign(t, zone, signingOf[zone]...)
		}
	}
	w.spoil(t)
	w.write(t, "root", "$TTL 60\n@ SOA ns.root-servers.test. hostmaster. 1 3600 600 86400 60\n@ NS ns.root-servers.test.\nns.root-servers.test. A 127.0.0.1\n"+root)
	w.sign(t, ".", "-g")
	port := freePort(t)
	w.authoritative = "127.0.0.1:" + port
	w.files = map[string]string{".": "root.signed", "plain": "plain", "stripped": "stripped"}
	for zone := range signedTexts {
		if w.files[zone] == "" {
			w.files[zone] = zone + ".signed"
		}
	}
	map[string]func(*testing.T, string){"BIND": w.named, "Knot": w.knotd}[server](t, port)
	w.await(t, w.authoritative, "signed.", dns.TypeDNSKEY)
	w.startUnbound(t, "")
	return w
}

func (w *real) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *real) run(t *testing.T, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		requireOrSkip(t, err.Error())
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	libraries, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "../lib/*-linux-gnu"))
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// sign signs a zone with one key, as dnssec-signzone does. It leaves the DS record in a file dsset-ZONE.
func (w *real) sign(t *testing.T, zone string, options ...string) {
	t.Helper()
	file := strings.ReplaceAll(zone, ".", "root")
	w.run(t, "dnssec-keygen", "-q", "-K", w.dir, "-a", "13", "-f", "KSK", zone)
	w.run(t, "dnssec-signzone", append(options, "-q", "-P", "-S", "-z", "-K", w.dir, "-d", w.dir, "-o", zone, "-f", file+".signed", file)...)
}

// spoil does to zones what signing does not: a DS record of another key, none, and signatures on TLSA records that are no good.
func (w *real) spoil(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(w.dir, "dsset-nods.")); err != nil {
		t.Fatal(err)
	}
	w.write(t, "dsset-otherds.", "otherds. IN DS 12345 13 2 "+strings.Repeat("AB", 32)+"\n")
	key, private := w.key(t, "signed.")
	other := &dns.DNSKEY{Hdr: key.Hdr, Flags: 257, Protocol: 3, Algorithm: key.Algorithm}
	otherPrivate, err := other.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(w.dir, "signed.signed"))
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	parser := dns.NewZoneParser(strings.NewReader(string(file)), "signed.", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		sig, isSig := rr.(*dns.RRSIG)
		if isSig && sig.TypeCovered == dns.TypeTLSA {
			set := records(sig.Hdr.Name + " 60 IN TLSA 3 1 1 00")
			at := func(t time.Time) uint32 { return uint32(t.Unix()) }
			made, with := sig, private
			switch strings.Split(sig.Hdr.Name, ".")[2] {
			case "expired":
				sig.Inception, sig.Expiration = at(time.Now().Add(-48*time.Hour)), at(time.Now().Add(-24*time.Hour))
			case "future":
				sig.Inception, sig.Expiration = at(time.Now().Add(24*time.Hour)), at(time.Now().Add(48*time.Hour))
			case "wrong":
				sig.KeyTag, with = other.KeyTag(), otherPrivate
			case "broken":
				set = records(sig.Hdr.Name + " 60 IN TLSA 3 1 1 99")
			case "stripped":
				continue
			default:
				made = nil
			}
			if made != nil {
				if err := made.Sign(with.(crypto.Signer), set); err != nil {
					t.Fatal(err)
				}
			}
		}
		lines.WriteString(rr.String() + "\n")
	}
	if parser.Err() != nil {
		t.Fatal(parser.Err())
	}
	w.write(t, "signed.signed", lines.String())
}

func (w *real) key(t *testing.T, zone string) (*dns.DNSKEY, crypto.PrivateKey) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(w.dir, "K"+zone+"+*.key"))
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	rr, err := dns.NewRR(string(text))
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.Open(strings.TrimSuffix(files[0], "key") + "private")
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	key, err := rr.(*dns.DNSKEY).ReadPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return rr.(*dns.DNSKEY), key
}

// resolver asks the world's Unbound, and authoritative servers on the port of the world's.
func (w *real) resolver() *resolve.Resolver { return resolve.New([]string{w.unbound}, w.authoritative) }

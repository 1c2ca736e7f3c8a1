package dnsprovider_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

const keyName = "mxcert."

// secret is what must be in no error.
var secret = base64.StdEncoding.EncodeToString([]byte("thirty-two bytes that are secret"))

// newWorld has two zones and a key that may change both.
func newWorld(t testing.TB) (*nameserver.World, *nameserver.Server) {
	t.Helper()
	w := nameserver.New()
	for apex, records := range map[string][]string{
		"example.org": {"@ NS ns1", "ns1 A 127.0.0.1", "mx A 127.0.0.1"},
		"example.com": {"@ NS ns1.example.org."},
	} {
		if err := w.AddZone(apex, records...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.AddKey(keyName, dns.HmacSHA256, secret); err != nil {
		t.Fatal(err)
	}
	return w, listen(t, w, "127.0.0.1:0")
}

func listen(t testing.TB, w *nameserver.World, address string, zones ...string) *nameserver.Server {
	t.Helper()
	s, err := w.Listen(address, zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// environ are the variables for a server; pairs NAME, VALUE change them.
func environ(server string, pairs ...string) map[string]string {
	env := map[string]string{"DNSUPDATE_NAMESERVER": server, "DNSUPDATE_TSIG_KEY": keyName, "DNSUPDATE_TSIG_SECRET": secret, "DNSUPDATE_DNS_TIMEOUT": "1"}
	for i := 0; i < len(pairs); i += 2 {
		env["DNSUPDATE_"+pairs[i]] = pairs[i+1]
	}
	return env
}

func newSolver(t testing.TB, name string, env map[string]string, resolvers ...string) dnsprovider.Solver {
	t.Helper()
	s, err := dnsprovider.New(name, env, resolve.New(append(resolvers, env["DNSUPDATE_NAMESERVER"])))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// record is the TXT record of a domain in example.org or example.com.
func record(domain, value string) dnsprovider.TXT {
	labels := strings.Split(domain, ".")
	zone := strings.Join(labels[len(labels)-2:], ".") + "."
	return dnsprovider.TXT{
		Place:  resolve.Place{Name: "_acme-challenge." + domain + ".", Zone: zone, Primary: "ns1.example.org."},
		Domain: domain, Value: value, Token: "token-" + value, KeyAuth: "keyauth-" + value,
	}
}

func values(w *nameserver.World, domain string) []string {
	v := w.TXT("_acme-challenge." + domain)
	slices.Sort(v)
	return v
}

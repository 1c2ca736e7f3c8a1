package resolve_test

import (
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

// TestParseServer reads what people write for a resolver.
func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:53", "192.0.2.1:5353": "192.0.2.1:5353", "::1": "[::1]:53", "[::1]": "[::1]:53", "[2001:db8::1]:54": "[2001:db8::1]:54", "fe80::1%eth0": "[fe80::1%eth0]:53",
		"tls://dns.example.net@192.0.2.1":          "tls://dns.example.net@192.0.2.1:853",
		"TLS://DNS.Example.net.@[2001:db8::1]:443": "tls://dns.example.net@[2001:db8::1]:443",
		"tls://dns@::1":                            "tls://dns@[::1]:853",
		"tls://192.0.2.1@192.0.2.1":                "tls://192.0.2.1@192.0.2.1:853",
	} {
		if got, err := resolve.ParseServer(text); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
		if again, err := resolve.ParseServer(want); again != want || err != nil {
			t.Errorf("%q again: %q, %v", want, again, err)
		}
	}
	for text, says := range map[string]string{
		"": "must be an IP address", "localhost": "must be an IP address", "ns.example.org:53": "must be an IP address", "192.0.2.1:0": "the port", "192.0.2.1:dns": "the port",
		"192.0.2.1:65536": "the port", "[192.0.2.1]:53": "no IPv6 address", "[::1:53": "no IPv6 address", "1:2:3:4:5:6:7:8:53": "in brackets", "https://dns.example.net/": "not supported", "udp://192.0.2.1": "not supported",
		"tls://": "is missing", "tls://192.0.2.1": "is missing", "tls://@192.0.2.1": "before the @", "tls://a b@192.0.2.1": "before the @", "tls://ä.example@192.0.2.1": "before the @",
		"tls://.@192.0.2.1": "before the @", "tls://dns.example.net@": "must be an IP address", "tls://a@b@192.0.2.1": "must be an IP address", "tls://dns.example.net@192.0.2.1:x": "the port",
	} {
		if got, err := resolve.ParseServer(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

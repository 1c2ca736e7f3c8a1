package configs

import (
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		in   string
		want time.Duration // 0: an error
	}{
		{"90s", 90 * time.Second}, {"1h30m", 90 * time.Minute}, {"1.5h", 90 * time.Minute}, {"2d", 2 * day},
		{"1d12h", 36 * time.Hour}, {"60d", 60 * day}, {"0d5m", 5 * time.Minute},
		{"", 0}, {"0", 0}, {"0s", 0}, {"0d", 0}, {"-5m", 0}, {"1d-5m", 0}, {"-1d", 0}, {"300", 0}, {"1.5d", 0}, {"d", 0},
		{"5m1d", 0}, {"1d1d", 0}, {"soon", 0}, {"99999999d", 0}, {"65535d2500000h", 0}, {"5 m", 0}, {"+1d", 0},
	}
	for _, tt := range tests {
		if got, err := parseDuration(tt.in); got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]Rate{
		"300/3h": {N: 300, Per: 3 * time.Hour}, "50/7d": {N: 50, Per: 7 * 24 * time.Hour}, "1 / 1s": {N: 1, Per: time.Second}, "none": {None: true}, "": {},
	} {
		if got, err := parseRate(in); got != want || err != nil {
			t.Errorf("parseRate(%q) = %v, %v", in, got, err)
		}
		if again, err := parseRate(want.String()); again != want || err != nil {
			t.Errorf("%v is written as %q", want, want)
		}
	}
	for _, in := range []string{"300", "0/3h", "-1/3h", "1e3/3h", "2000000/3h", "300/", "300/3", "/3h", "300/8d", "300/1ms", "300/3h/3h", "None", "300 per 3h"} {
		if got, err := parseRate(in); err == nil {
			t.Errorf("parseRate(%q) = %v", in, got)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for in, want := range map[string]string{"5m": "5m", "90s": "1m30s", "1h": "1h", "1h1m": "1h1m", "1h0m5s": "1h0m5s", "10m": "10m", "20s": "20s", "2d": "48h", "1500ms": "1.5s"} {
		d, err := parseDuration(in)
		if got := shortDuration(d); err != nil || got != want {
			t.Errorf("shortDuration(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestParseMode(t *testing.T) {
	tests := []struct {
		in   string
		want fs.FileMode // 0: an error
	}{
		{"0640", 0o640}, {"0600", 0o600}, {"0400", 0o400}, {"0o640", 0o640}, {"0660", 0o660},
		{"640", 0}, {"416", 0}, {"0644", 0}, {"0641", 0}, {"0642", 0}, {"0750", 0}, {"0040", 0}, {"0000", 0}, {"4640", 0},
		{"04640", 0}, {"02640", 0}, {"0o2640", 0}, {"00640", 0}, {"064", 0}, {"0", 0}, {"0o", 0}, {"", 0}, {"0680", 0},
		{"0x1A0", 0}, {"u=rw", 0}, {"-640", 0}, {"0-40", 0}, {"0o+40", 0}, {"0_640", 0},
	}
	for _, tt := range tests {
		if got, err := parseMode(tt.in); got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("parseMode(%q) = %04o, %v; want %04o", tt.in, got, err, tt.want)
		}
	}
}

func TestDomainName(t *testing.T) {
	tests := []struct{ in, want string }{ // "": an error
		{"mx.example.org", "mx.example.org"}, {"MX.Example.ORG.", "mx.example.org"}, {"*.example.org", "*.example.org"},
		{"münchen.example", "xn--mnchen-3ya.example"}, {"MÜNCHEN.example", "xn--mnchen-3ya.example"},
		{"3com.com", "3com.com"}, {"a.b1", "a.b1"}, {"*.co.uk", "*.co.uk"},
		{"*.org", ""}, {"mx.example.org..", ""}, {".example.org", ""}, {"mx_1.example.org", ""}, {"ab--cd.example.org", ""},
		{"xn--mnchen-3y.example", ""}, {"mx.example.org/", ""}, {"mx example.org", ""}, {"1.2.3.4", ""}, {"1.2.3", ""},
		{"::1", ""}, {"example", ""}, {".", ""}, {"*.", ""}, {"a*.example.org", ""}, {"mx.example.org\n", ""},
	}
	for _, tt := range tests {
		if got, err := domainName(tt.in); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("domainName(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestMailAddress(t *testing.T) {
	for in, want := range map[string]string{ // "": an error
		"post@example.net": "post@example.net", "Post.Master+mx@MX.Example.NET": "Post.Master+mx@mx.example.net", "post@bücher.example": "post@xn--bcher-kva.example",
		"a=b!c/d@example.net": "a=b!c/d@example.net",
		"":                    "", "@example.net": "", "post@": "", "post": "", "jörg@example.net": "", "a b@example.net": "", "a@b@example.net": "", "<post@example.net>": "",
		"Me <post@example.net>": "", "a,b@example.net": "", "post@example.net,other@example.net": "", "a?b@example.net": "", "a%40b@example.net": "",
		"a#b@example.net": "", `"a"@example.net`: "", "post@[192.0.2.1]": "", "post@*.example.net": "", ".a@example.net": "", "a..b@example.net": "", "a\n@example.net": "",
	} {
		if got, err := mailAddress(in); got != want || (err == nil) != (want != "") {
			t.Errorf("mailAddress(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestIsReserved(t *testing.T) {
	for domain, want := range map[string]bool{
		"example.org": true, "mx.example.com": true, "bücher.example": true, "mx.test": true, "a.invalid": true, "x.localhost": true,
		"example.de": false, "myexample.org": false, "example.org.de": false, "mx.de": false,
	} {
		if isReserved(domain) != want {
			t.Errorf("%s", domain)
		}
	}
}

func TestIsPrivate(t *testing.T) {
	for domain, want := range map[string]bool{
		"host.local": true, "mx.corp.lan": true, "a.internal": true, "x.home.arpa": true, "home.arpa": true, "mx.onion": true,
		"local.de": false, "xhome.arpa": false, "example.org": false, "lan.example.de": false,
	} {
		if isPrivate(domain) != want {
			t.Errorf("%s", domain)
		}
	}
	for email, warns := range map[string]bool{"root@host.local": true, "post@mx.de": false} {
		for directory, public := range map[string]bool{"letsencrypt": true, "https://ca.host.local/acme": false} {
			config, err := Parse("/c.yaml", fmt.Appendf(nil, "acme: {email: %s, agree_tos: true, directory: %q}\ndns: {provider: exec, env: {EXEC_PATH: /bin/true}}\ncertificates: [{name: mx, domains: [mx.de], deploy: [{files: {certificate: /a, private_key: /b}}]}]\n", email, directory))
			if err != nil || strings.Contains(fmt.Sprint(config.Warnings(func(string, string) bool { return false })), "private domain") != (warns && public) {
				t.Errorf("%s at %s: %v, %v", email, directory, config, err)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"email", "agree_tos", "directory", "ca_file"}
	for in, want := range map[string]string{
		"emial": "email", "e-mail": "email", "agree-tos": "agree_tos", "Directory": "directory", "dir": "directory", "cafile": "ca_file",
		"colour": "", "x": "", "": "", "directoryURL": "directory",
	} {
		if got := nearest(in, keys); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	above := DNS{Provider: "rfc2136", Env: map[string]Secret{"A": "1"}, Resolvers: []string{"192.0.2.1:53"}, ResolversTrusted: []string{"192.0.2.2:53"},
		Propagation: Propagation{Timeout: time.Minute, Require: "all"}}
	tests := []struct {
		name           string
		override, want DNS
	}{
		{"nothing", DNS{}, above},
		{"one field", DNS{Propagation: Propagation{Require: "none"}},
			DNS{"rfc2136", above.Env, above.Resolvers, above.ResolversTrusted, nil, Propagation{time.Minute, "none"}}},
		{"environment as a whole", DNS{Env: map[string]Secret{"B": "2"}},
			DNS{"rfc2136", map[string]Secret{"B": "2"}, above.Resolvers, above.ResolversTrusted, nil, above.Propagation}},
		{"another provider", DNS{Provider: "hetzner"}, DNS{"hetzner", nil, above.Resolvers, above.ResolversTrusted, nil, above.Propagation}},
		{"the system's resolvers", DNS{Resolvers: []string{}}, DNS{"rfc2136", above.Env, []string{}, above.ResolversTrusted, nil, above.Propagation}},
		{"trusts nobody", DNS{ResolversTrusted: []string{}}, DNS{"rfc2136", above.Env, above.Resolvers, []string{}, nil, above.Propagation}},
	}
	for _, tt := range tests {
		if got := merge(tt.override, above); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestPaths(t *testing.T) {
	tests := []struct {
		target                     Target
		i                          int
		cert, privateKey, combined string
	}{
		{Target{Certificate: []string{"/a/{name}.{key}.crt"}, PrivateKey: []string{"/a/{key}/{key}.key"}}, 1, "/a/mx.rsa2048.crt", "/a/rsa2048/rsa2048.key", ""},
		{Target{Certificate: []string{"/a", "/b"}, PrivateKey: []string{"/c", "/d"}, Combined: "/e/{name}"}, 1, "/b", "/d", "/e/mx"},
		{Target{Certificate: []string{"/a", "/b"}}, 2, "", "", ""},
	}
	for _, tt := range tests {
		c, p, b := tt.target.Paths("mx", "rsa2048", tt.i)
		if c != tt.cert || p != tt.privateKey || b != tt.combined {
			t.Errorf("%+v: %q, %q, %q", tt.target, c, p, b)
		}
	}
}

// TestDefaultsParse wants every default in config.go to be a value that a file could have.
func TestDefaultsParse(t *testing.T) {
	c := Config{Certificates: make([]Certificate, 1)}
	setDefaults(reflect.ValueOf(&c).Elem())
	setDefaults(reflect.ValueOf(&c.Certificates[0]).Elem())
	for name, zero := range map[string]bool{
		"propagation.timeout": c.DNS.Propagation.Timeout == 0, "hooks.timeout": c.Hooks.Timeout == 0, "state": c.State == "",
		"verify.timeout": c.Certificates[0].Verify.Timeout == 0, "keys": len(c.Certificates[0].Keys) == 0,
		"reuse_key": !c.Certificates[0].ReuseKey, "ports": c.Certificates[0].DANE.Ports[0] == 0, "level": c.Log.Level == "",
	} {
		if zero {
			t.Errorf("%s has no default", name)
		}
	}
}

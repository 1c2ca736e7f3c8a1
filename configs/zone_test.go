package configs

import "testing"

func TestZoneName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"example.net": "example.net", "Example.NET.": "example.net", "münchen.example": "xn--mnchen-3ya.example", "XN--MNCHEN-3YA.example": "xn--mnchen-3ya.example",
		"lan": "lan", "_acme-challenge.MX.example.org": "_acme-challenge.mx.example.org", "mx._acme.example.org": "mx._acme.example.org",
		"a_b.Example.org": "a_b.example.org", "_acme-challenge.bücher.example": "_acme-challenge.xn--bcher-kva.example",
		"": "", ".": "", "*.example.org": "", "a..b": "", "-a.example": "", "192.0.2.1": "", "[2001:db8::1]": "", "a b.example": "", "https://example.org": "", "me@example.org": "",
		"_ü.example.org": "",
	} {
		if got, err := zoneName(in); got != want || (err == nil) != (want != "") {
			t.Errorf("zoneName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

// A zone is found by its path, whose brackets keep the dots of the name apart.
func TestZonePlaces(t *testing.T) {
	t.Parallel()
	c, err := loadBytes([]byte("acme: {agree_tos: true}\ndns:\n  zones:\n    Example.NET:\n      provider: exec\n      env: {EXEC_PATH: /bin/true}\ncertificates:\n  - {name: a, domains: [a.example.net]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	zone := c.Certificates[0].DNS.Zones[0]
	if zone.Name != "example.net" || zone.Path != "dns.zones[Example.NET]" {
		t.Errorf("zone %+v", zone)
	}
	for path, want := range map[string][2]int{zone.Path: {4, 5}, zone.Path + ".provider": {5, 17}, zone.Path + ".env.EXEC_PATH": {6, 24}, zone.Path + ".env.OTHER": {6, 7}, "dns.zones[example.org]": {3, 3}} {
		if p := c.At(path); p.Line != want[0] || p.Column != want[1] {
			t.Errorf("At(%s) = %d:%d, want %v", path, p.Line, p.Column, want)
		}
	}
}

package configs

import (
	"fmt"
	"strings"
	"testing"
)

// many is a configuration of n certificates.
func many(n int) []byte {
	text := "acme: {agree_tos: true}\ndns: {provider: rfc2136}\ncertificates:\n"
	for i := range n {
		text += fmt.Sprintf("  - name: mx%d\n    domains: [mx%d.example.org]\n    deploy:\n      - files: {certificate: /tls/mx%d.crt, private_key: /tls/mx%d.key}\n", i, i, i, i)
	}
	return []byte(text)
}

// A long list is written in parts, which must be one list again.
func TestEffectiveOfMany(t *testing.T) {
	c, err := loadBytes(many(250))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Effective(holdsSecret)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "certificates:"); n != 1 {
		t.Errorf("the list begins %d times", n)
	}
	sameAgain(t, c, out)
}

func BenchmarkLoad(b *testing.B) {
	text := many(1000)
	for b.Loop() {
		if _, err := loadBytes(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEffective(b *testing.B) {
	c, err := loadBytes(many(1000))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Effective(holdsSecret); err != nil {
			b.Fatal(err)
		}
	}
}

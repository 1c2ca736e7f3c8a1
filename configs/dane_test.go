package configs

import (
	"regexp"
	"strings"
	"testing"
)

// TestExamplePublishers takes each publisher out of the comments of the example, and wants it to work as it is written.
func TestExamplePublishers(t *testing.T) {
	kinds := map[string]bool{}
	for _, block := range regexp.MustCompile(`(?m)^      # publisher:\n(?:      #   .*\n)+`).FindAllString(string(Example()), -1) {
		setting := strings.ReplaceAll(strings.ReplaceAll(block, "      # ", "      "), "      #", "      ")
		text := strings.Replace(strings.Replace(string(Example()), "      # mode: publish\n", "      mode: publish\n", 1), "      ports: [25]\n", "      ports: [25]\n"+setting, 1)
		c, err := loadBytes([]byte(text))
		if err != nil {
			t.Errorf("%s\n%v", setting, err)
			continue
		}
		kinds[c.Certificates[0].DANE.Publisher.Kind] = true
	}
	for _, kind := range publishers()[2:] {
		if !kinds[kind] {
			t.Errorf("the example shows no %s", kind)
		}
	}
}

// TestHidesSecretsOfPublishers: a line with a secret that YAML cannot read yet is shown without it.
func TestHidesSecretsOfPublishers(t *testing.T) {
	for line, want := range map[string]string{
		`publisher: {powerdns: {url: "https://ns1.example.org", key: very-secret}}`: `publisher: {powerdns: {url: "https://ns1.example.org", key: *************`,
		`  key: "cred:pdns"`:   `  key: "cred:pdns"`,
		`  token: very-secret`: `  token: ***********`,
		`  combined: "/etc/exim4/tls/{name}.{key}.pem" # and its key (tls_privatekey)`: `  combined: "/etc/exim4/tls/{name}.{key}.pem" # and its key (tls_privatekey)`,
	} {
		if got := redact(line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
}

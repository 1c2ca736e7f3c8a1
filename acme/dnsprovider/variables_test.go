package dnsprovider

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

func TestMisspelt(t *testing.T) {
	for _, tt := range []struct {
		provider string
		name     string
		meant    string
	}{
		{"cloudflare", "CLOUDFLARE_DNS_API_TOKN", "CLOUDFLARE_DNS_API_TOKEN"},
		{"cloudflare", "CF_DNS_API_TOKNE", "CF_DNS_API_TOKEN"},
		{"cloudflare", "CF_DNS_API_TOKEN_FIEL", "CF_DNS_API_TOKEN_FILE"},
		{"cloudflare", "CF_API_TOKEN", ""},                        // too far from all
		{"cloudflare", "CLOUDFLARE_DNS_API_TOKEN", ""},            // right
		{"cloudflare", "CLOUDFLARE_DNS_API_TOKEN_FILE", ""},       // right
		{"cloudflare", "CLOUDFLARE_PROPAGATION_TIMEOUT", ""},      // lego's, of no use here
		{"cloudflare", "HTTPS_PROXY", ""},                         //
		{"hetzner", "HETZNER_API_KEY", ""},                        // read, not described
		{"hetzner", "HETZNER_APITOKEN", "HETZNER_API_TOKEN"},      //
		{"route53", "AWS_PROFIL", "AWS_PROFILE"},                  //
		{"route53", "AWS_STS_REGIONAL_ENDPOINTS", ""},             // read by the library
		{"acmedns", "ACME_DNS_API_BAS", "ACME_DNS_API_BASE"},      // another name of acme-dns
		{"rfc2136", "DNSUPDATE_NAMESERVERS", ""},                  // CheckVariables refuses it
		{"exec", "EXEC_PAHT", ""}, {"certbot-hook", "MY_KEY", ""}, // for the program
		{"nonesuch", "X", ""},
	} {
		want := map[string]string{}
		if tt.meant != "" {
			want[tt.name] = tt.meant
		}
		if got := Misspelt(tt.provider, []string{tt.name}); !maps.Equal(got, want) {
			t.Errorf("%s %s: %v", tt.provider, tt.name, got)
		}
	}
}

// TestMisspeltHint: a provider that lacks a variable says which of those it was given may be meant.
func TestMisspeltHint(t *testing.T) {
	_, err := New("desec", map[string]string{"DESEC_TOKNE": "x"}, resolve.New(nil))
	if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Hint(), "did you mean DESEC_TOKEN instead of DESEC_TOKNE?") {
		t.Errorf("%v", err)
	}
}

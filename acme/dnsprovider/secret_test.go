package dnsprovider

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	for _, tt := range []struct {
		provider, variable string
		secret             bool
	}{
		{"rfc2136", "DNSUPDATE_TSIG_SECRET", true},
		{"rfc2136", "RFC2136_TSIG_SECRET", true},
		{"dnsupdate", "DNSUPDATE_TSIG_SECRET", true},
		{"rfc2136", "DNSUPDATE_TSIG_SECRET_FILE", false}, // a path
		{"rfc2136", "DNSUPDATE_TSIG_KEY", false},         // a name
		{"rfc2136", "RFC2136_TSIG_KEY", false},
		{"rfc2136", "DNSUPDATE_TSIG_FILE", false},
		{"rfc2136", "DNSUPDATE_TSIG_ALGORITHM", false},
		{"rfc2136", "DNSUPDATE_NAMESERVER", false},
		{"dnsupdate", "RFC2136_NAMESERVER", false},
		{"rfc2136", "DNSUPDATE_TSIG_SECERT", true}, // it does not exist, and its value may be the secret
		{"cloudflare", "CF_DNS_API_TOKEN", true},
		{"cloudflare", "CF_API_EMAIL", true},         // lego calls it a credential
		{"cloudflare", "CLOUDFLARE_BASE_URL", false}, // an ordinary setting
		{"cloudflare", "CLOUDFLARE_TTL", false},
		{"cloudflare", "CLOUDFLARE_API_KEY_FILE", false}, // a path, whatever words are in it
		{"route53", "AWS_SHARED_CREDENTIALS_FILE", false},
		{"acme-dns", "ACME_DNS_API_BASE", true},      // lego calls it a credential
		{"acme-dns", "ACME_DNS_STORAGE_PATH", false}, // the same, but a path is none
		{"transip", "TRANSIP_PRIVATE_KEY_PATH", false},
		{"exec", "KEY_PATH", true}, // for the program
		{"cloudflare", "CLOUDFLARE_UNHEARD_OF", true},
		{"hetzner", "HETZNER_API_KEY", true},     // lego reads it and does not describe it
		{"hetzner", "CF_DNS_API_TOKEN", true},    // another provider's
		{"httpreq", "HTTPREQ_ENDPOINT", true},    // a URL can have a password
		{"httpreq", "HTTPREQ_PASSWORD", true},    // lego calls it a setting
		{"inwx", "INWX_SHARED_SECRET", true},     // the same
		{"inwx", "INWX_SANDBOX", false},          //
		{"ovh", "OVH_ENDPOINT", false},           // lego calls it a credential
		{"route53", "AWS_REGION", false},         // the same
		{"route53", "AWS_MAX_RETRIES", false},    //
		{"acmedns", "ACME_DNS_ALLOWLIST", false}, // another name of acme-dns
		{"exec", "EXEC_PATH", false},
		{"exec", "EXEC_MODE", false},
		{"exec", "KEY_FILE", false},
		{"exec", "ANYTHING", true}, // for the program
		{"certbot-hook", "CERTBOT_AUTH_HOOK", false},
		{"certbot-hook", "CERTBOT_HOOK_TIMEOUT", false},
		{"certbot-hook", "ZONE", true},
		{"nonesuch", "NONESUCH_TTL", true},
		{"", "X", true},
	} {
		if got := Secret(tt.provider, tt.variable); got != tt.secret {
			t.Errorf("%s %s: secret %t", tt.provider, tt.variable, got)
		}
	}
}

// TestSettingsThatAreShown: what all of lego's descriptions call a setting is shown, but for what sounds like a secret.
// The list of those is read by eye when lego's version changes.
func TestSettingsThatAreShown(t *testing.T) {
	var described map[string]Description
	if err := json.Unmarshal(contents(t, "lego_all.json"), &described); err != nil {
		t.Fatal(err)
	}
	var hidden, excepted []string
	for _, d := range described {
		for _, v := range d.Variables {
			if !v.Credential && soundsSecret(v.Name) {
				hidden = append(hidden, v.Name)
			}
			if v.Credential && notSecret(v.Name) {
				excepted = append(excepted, v.Name)
			}
		}
	}
	slices.Sort(hidden)
	slices.Sort(excepted)
	if got := strings.Join(slices.Compact(hidden), " "); got != "AKAMAI_ACCOUNT_SWITCH_KEY EDGEONE_SESSION_TOKEN GIGAHOSTNO_SECRET HTTPREQ_PASSWORD INWX_SHARED_SECRET NICMANAGER_API_OTP REGRU_TLS_KEY SCW_ACCESS_KEY TENCENTCLOUD_SESSION_TOKEN" {
		t.Errorf("settings that are hidden: %s", got)
	}
	if got := strings.Join(excepted, " "); got != "AWS_REGION HUAWEICLOUD_REGION OCI_REGION OVH_ENDPOINT" {
		t.Errorf("credentials that are shown: %s", got)
	}
}

// The URL of PowerDNS' API belongs into the configuration. It is not shown all the same: it may have a password.
func TestURLOfPowerDNS(t *testing.T) {
	if WarnSecret("pdns", "PDNS_API_URL") || !WarnSecret("pdns", "PDNS_API_KEY") || !Secret("pdns", "PDNS_API_URL") {
		t.Error("there is a warning of the URL, or none of the key, or the URL is shown")
	}
}

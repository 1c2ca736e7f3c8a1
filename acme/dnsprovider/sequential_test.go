package dnsprovider_test

import (
	"testing"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

// TestSequential: lego's word is passed on, and its variable is read.
func TestSequential(t *testing.T) {
	for _, tt := range []struct {
		provider string
		env      map[string]string
		interval time.Duration
		yes      bool
	}{
		{"duckdns", map[string]string{"DUCKDNS_TOKEN": "x"}, time.Minute, true},
		{"duckdns", map[string]string{"DUCKDNS_TOKEN": "x", "DUCKDNS_SEQUENCE_INTERVAL": "3"}, 3 * time.Second, true},
		{"joker", map[string]string{"JOKER_API_MODE": "SVC", "JOKER_USERNAME": "x", "JOKER_PASSWORD": "y"}, time.Minute, true},
		{"joker", map[string]string{"JOKER_API_KEY": "x"}, 0, false},
		{"cloudflare", map[string]string{"CF_DNS_API_TOKEN": "x"}, 0, false},
		{"exec", map[string]string{"EXEC_PATH": "/bin/sh"}, 0, false},
		{"rfc2136", map[string]string{"DNSUPDATE_TSIG_KEY": keyName, "DNSUPDATE_TSIG_SECRET": secret}, 0, false},
	} {
		solver, err := dnsprovider.New(tt.provider, tt.env, resolve.New([]string{"127.0.0.1:1"}))
		if err != nil {
			t.Errorf("%s: %v", tt.provider, err)
		} else if interval, yes := dnsprovider.Sequential(solver); interval != tt.interval || yes != tt.yes {
			t.Errorf("%s %v: %s, %t", tt.provider, tt.env, interval, yes)
		}
	}
}

package adopt_test

import (
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
	"mxcert/configs"
)

// A list of plugins in Le_Webroot is by the position of the names: the proposal gives each zone its provider.
func TestAcmeShZones(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org", "mail.example.com", "*.lists.example.com", "mx.example.net")
	const names = "Le_Domain='mx.example.org'\nLe_Alt='mail.example.com,*.lists.example.com,mx.example.net'\n"
	for what, tt := range map[string]struct {
		settings string
		options  adopt.Options
		want     []string // lines of zones
	}{
		"by position": {names + "Le_Webroot='dns_nsupdate,dns_cf,dns_cf,dns_hetzner'\n", adopt.Options{},
			[]string{`"example.org": {provider: rfc2136, env: {}}   # its DNS plugin nsupdate`, `"example.com": {provider: cloudflare, env: {}}   # its DNS plugin cf`, `"example.net": {provider: hetzner, env: {}}   # its DNS plugin hetzner`}},
		"a shorter list repeats its last": {names + "Le_Webroot='dns_nsupdate,dns_cf'\n", adopt.Options{},
			[]string{`"example.org": {provider: rfc2136`, `"example.com": {provider: cloudflare`, `"example.net": {provider: cloudflare`}},
		"an empty place repeats the one before": {names + "Le_Webroot='dns_nsupdate,,dns_cf,'\n", adopt.Options{},
			[]string{`"example.org": {provider: rfc2136`, `"mail.example.com": {provider: rfc2136`, `"lists.example.com": {provider: cloudflare`, `"example.net": {provider: cloudflare`}},
		"two plugins in one domain": {names + "Le_Webroot='dns_nsupdate,dns_cf,dns_hetzner,dns_cf'\n", adopt.Options{},
			[]string{`"example.org": {provider: rfc2136`, `"mail.example.com": {provider: cloudflare`, `"lists.example.com": {provider: hetzner`, `"example.net": {provider: cloudflare`}},
		"a challenge that was moved": {names + "Le_Webroot='dns_nsupdate,dns_cf,dns_cf,dns_cf'\nLe_ChallengeAlias='no,acme.example.info,no,=x.example.info'\n", adopt.Options{},
			[]string{`"example.org": {provider: rfc2136`, `"example.info": {provider: cloudflare`, `"example.com": {provider: cloudflare`}},
		"a name that was not proven by DNS":    {names + "Le_Webroot='dns_nsupdate,/var/www,dns_cf'\n", adopt.Options{}, nil},
		"a plugin without a provider":          {names + "Le_Webroot='dns_nsupdate,dns_doapi,dns_cf'\n", adopt.Options{}, nil},
		"a provider that this mxcert lacks":    {names + "Le_Webroot='dns_nsupdate,dns_cf'\n", adopt.Options{Knows: func(p string) bool { return p == "rfc2136" }}, nil},
		"a name with characters of its own":    {"Le_Domain='mx.example.org'\nLe_Alt='a\n    b: x.example.com'\nLe_Webroot='dns_nsupdate,dns_cf'\n", adopt.Options{}, nil},
		"one plugin for all":                   {names + "Le_Webroot='dns_nsupdate'\n", adopt.Options{}, nil},
		"several plugins, the names not known": {"Le_Webroot='dns_nsupdate,dns_cf'\n", adopt.Options{}, nil},
	} {
		f := one(t, "acme.sh", acmeShSettings(t, b, tt.settings))
		store, _ := book(t)
		taken, err := take(t, store, f, tt.options)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(taken.Proposal) {
			if zone, ok := strings.CutPrefix(line, "    #     "); ok {
				got = append(got, strings.TrimSpace(zone))
			}
		}
		for i, want := range tt.want {
			if i >= len(got) || !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: zones %q, want %q", what, got, tt.want)
				break
			}
		}
		if len(got) != len(tt.want) || (len(tt.want) == 0) == strings.Contains(taken.Proposal, "#   zones:") {
			t.Errorf("%s: zones %q, want %q\n%s", what, got, tt.want, taken.Proposal)
		}
		text := "acme: {agree_tos: true}\n" + strings.ReplaceAll(strings.ReplaceAll(taken.Proposal, "    #   ", "      "), "    # dns:   #", "    dns: #")
		if _, err := configs.Parse("proposal.yaml", []byte(text)); len(tt.want) > 0 && err != nil {
			t.Errorf("%s: the proposal is no configuration: %v\n%s", what, err, text)
		}
	}
}

func TestAtPosition(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		list string
		i    int
		want string
	}{{"a,b", 0, "a"}, {"a,b", 1, "b"}, {"a,b", 7, "b"}, {"a,,c", 1, "a"}, {",b", 0, ""}, {"", 0, ""}, {"", 3, ""}} {
		if got := adopt.AtPosition(strings.Split(tt.list, ","), tt.i); got != tt.want {
			t.Errorf("%q at %d: %q, want %q", tt.list, tt.i, got, tt.want)
		}
	}
}

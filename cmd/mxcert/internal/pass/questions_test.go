package pass

import (
	"fmt"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// A pass with an order asks DNS what its preflight and the order ask. Without dns.zones nothing is asked to find the account: 25 questions for two
// names are what it was before there were zones, and cheap is what it costs to know that no name has TLSA records. With dns.zones it is one question for each name.
func TestQuestionsOfAPass(t *testing.T) {
	t.Parallel()
	asked := func(edit func(h *host)) (questions, updates int) {
		h := newHost(t, lab.Options{}, lab.ConfigOptions{})
		edit(h)
		h.World.ResetLog()
		h.pass(report.CodeOK, renew)
		return len(h.World.Queries()), len(h.World.Updates())
	}
	const changes, cheap = 2, 3 // one question for each name, and one whether the resolver validates
	for what, tt := range map[string]struct {
		most int
		edit func(h *host)
	}{
		"one account": {25 + cheap, func(*host) {}},
		"an account for the zone": {25 + cheap + 2, func(h *host) {
			h.edit("dns:\n", fmt.Sprintf("dns:\n  zones:\n    example.org: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: %q, DNSUPDATE_TSIG_KEY: %q, DNSUPDATE_TSIG_SECRET: %q}}\n",
				h.Primary.Address(), lab.KeyName, h.Secret()))
		}},
	} {
		if questions, updates := asked(tt.edit); questions > tt.most || updates != changes {
			t.Errorf("%s: %d questions, %d updates; want at most %d, and %d", what, questions, updates, tt.most, changes)
		}
	}
}

package doctor

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/deadline"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// challenges counts the TXT records that are left at the names of challenges.
func (h *host) challenges(names ...string) (n int) {
	h.t.Helper()
	for _, name := range names {
		answer, err := dns.Exchange(new(dns.Msg).SetQuestion("_acme-challenge."+name+".", dns.TypeTXT), h.Primary.Address())
		h.check(err)
		n += len(answer.Answer)
	}
	return n
}

// TestOnline: the provider writes a record for each name and removes it, if this is asked for and only then.
func TestOnline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what     string
		config   lab.ConfigOptions
		breaks   func(h *host)
		severity finding.Severity // of the finding about the names that are required; "" for none
		says     string
		optional string // what is said about optional names
		quiet    bool   // nothing is written
	}{
		{what: "all is well", severity: finding.OK, says: "rfc2136 created a TXT record for mx.example.org, host7.example.org, all name servers showed it, and it is removed"},
		{what: "nobody looks", breaks: func(h *host) { h.edit("require: all", "require: none") }, severity: finding.OK, says: "nobody looked for it"},
		{what: "a wildcard", config: lab.ConfigOptions{Domains: []string{"*.example.org", "example.org"}}, severity: finding.OK, says: "example.org"},
		{what: "the key is wrong", breaks: func(h *host) { h.secret("AAAA" + h.Secret()[4:]) }, quiet: true},
		{what: "no name server shows it in time", breaks: func(h *host) {
			h.edit("timeout: 30s", "timeout: 2s")
			h.Primary.SetFaults(nameserver.Faults{Lag: time.Hour})
		}, severity: finding.Error, says: "were not visible everywhere"},
		{what: "an optional name is refused", config: lab.ConfigOptions{Optional: []string{"mail.example.com"}},
			breaks:   func(h *host) { h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.Zone)) },
			severity: finding.OK, says: "mx.example.org", optional: "this concerns optional names only (mail.example.com)"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, tt.config)
			if tt.breaks != nil {
				tt.breaks(h)
			}
			before := h.World.Serial(lab.Zone)
			var found checks
			for _, f := range Provider(t.Context(), h.want(), true) {
				found = append(found, Check{Finding: f})
			}
			if tt.severity != "" && !found.has("online", tt.severity, tt.says) || tt.severity == "" && found.has("online", finding.OK, "") {
				t.Errorf("not found: %s %q in%s", tt.severity, tt.says, found)
			}
			if tt.optional != "" && !found.has("online", finding.Warning, tt.optional) {
				t.Errorf("not found: %q in%s", tt.optional, found)
			}
			if written := h.World.Serial(lab.Zone) != before; written == tt.quiet {
				t.Errorf("written: %v", written)
			}
			h.Primary.SetFaults(nameserver.Faults{})
			if n := h.challenges("mx.example.org", "host7.example.org", "mail.example.com", "example.org"); n != 0 {
				t.Errorf("%d records are left", n)
			}
			for _, c := range found {
				if c.Severity != finding.OK && c.Hint == "" || strings.Contains(c.Message+c.Hint, h.Secret()) {
					t.Errorf("no hint, or the secret: %+v", c)
				}
			}
		})
	}
}

// TestOnlineIsInterrupted: the record is removed although nobody waits for the answer any more.
func TestOnlineIsInterrupted(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	ctx := deadline.New(t.Context())
	var once sync.Once
	h.Primary.SetFaults(nameserver.Faults{Lag: time.Hour, Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Opcode == dns.OpcodeUpdate && len(h.World.Challenges()) > 0 { // it is made
			time.AfterFunc(300*time.Millisecond, func() { once.Do(func() { close(ctx.Over) }) })
		}
		return reply
	}})
	before := h.World.Serial(lab.Zone)
	d := h.doctor()
	d.Online = true
	r := checks(d.Examine(ctx))
	h.Primary.SetFaults(nameserver.Faults{})
	if !r.has("online", finding.Error, "") || h.World.Serial(lab.Zone) < before+2 || h.challenges("mx.example.org") != 0 {
		t.Errorf("serial %d after %d, %d records are left:%s", h.World.Serial(lab.Zone), before, h.challenges("mx.example.org"), r)
	}
}

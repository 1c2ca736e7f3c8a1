package doctor

import (
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/fleet"
	"mxcert/cmd/mxcert/internal/engine"
	"mxcert/cmd/mxcert/internal/wanted"
)

// says wants a single finding.
func says(t *testing.T, what string, found []finding.Finding, severity finding.Severity, text, next string) {
	t.Helper()
	if len(found) != 1 || found[0].Severity != severity || !strings.Contains(found[0].Message, text) || !strings.Contains(found[0].Hint, next) {
		t.Errorf("%s: %+v", what, found)
	}
}

func TestFleetTrust(t *testing.T) {
	t.Parallel()
	const own, other, spare = "age1own", "age1other", "age1spare"
	hosts := []fleet.HostInfo{{Host: "mx1", Recipient: own, Alive: true}, {Host: "mx2", Recipient: other, Alive: true}}
	trusted := func(list ...string) (out []fleet.Trust) {
		for _, r := range list {
			out = append(out, fleet.Trust{Recipient: r, State: "trusted", Source: "configured"})
		}
		return out
	}
	says(t, "all is well", trust(own, "mx1", fleet.Overview{Hosts: hosts, Recipients: trusted(own, other, spare)}), finding.OK, "trusts all hosts", "")
	says(t, "one identity for two hosts", trust(own, "mx9", fleet.Overview{Hosts: hosts, Recipients: trusted(own, other, spare)}), finding.Warning, "the same identity as mx1", "mxcert fleet forget mx1")
	says(t, "no recovery", trust(own, "mx1", fleet.Overview{Hosts: hosts, Recipients: trusted(own, other)}), finding.Warning, "none is for recovery", "keep it offline")
	says(t, "a host that is not trusted", trust(own, "mx1", fleet.Overview{Hosts: hosts, Recipients: trusted(own, spare)}), finding.Warning, "does not trust mx2 (age1other)", "mxcert fleet recipients add age1other --host mx2")
	gone := append(trusted(other, spare), fleet.Trust{Recipient: own, State: recipientRemoved})
	says(t, "this host was removed", trust(own, "mx1", fleet.Overview{Hosts: hosts, Recipients: gone}), finding.Error, "was removed from the fleet", "new identity")
	left := append(trusted(own, other), fleet.Trust{Recipient: spare, State: recipientRemoved})
	says(t, "a removed recipient recovers nothing", trust(own, "mx1", fleet.Overview{Hosts: hosts, Recipients: left}), finding.Warning, "none is for recovery", "age-keygen")
}

func TestFleetHosts(t *testing.T) {
	t.Parallel()
	of := &wanted.Fleet{Name: "berlin", Host: "mx1"}
	seen := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for what, tt := range map[string]struct {
		list       []fleet.HostInfo
		severity   finding.Severity
		says, next string
	}{
		"none":                       {nil, finding.OK, "begins the fleet", ""},
		"this one, without a daemon": {[]fleet.HostInfo{{Host: "mx1", Seen: seen}}, finding.OK, "known so far: mx1", ""},
		"two at work":                {[]fleet.HostInfo{{Host: "mx1"}, {Host: "mx2", Alive: true}}, finding.OK, "mx1, mx2", ""},
		"one away":                   {[]fleet.HostInfo{{Host: "mx1", Alive: true}, {Host: "mx2", Seen: seen}}, finding.Warning, "away: mx2 (since 2026-11-30 12:00 UTC)", "mxcert fleet forget HOST"},
	} {
		says(t, what, []finding.Finding{hosts(of, fleet.Overview{Hosts: tt.list})}, tt.severity, tt.says, tt.next)
	}
}

func TestFleetClock(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]struct {
		severity finding.Severity
		says     string
	}{
		0:                {finding.OK, "agree"},
		20 * time.Second: {finding.OK, "agree"},
		5 * time.Minute:  {finding.Warning, "5m0s ahead of that"},
		-5 * time.Minute: {finding.Warning, "5m0s behind that"},
	} {
		says(t, ahead.String(), []finding.Finding{clock(engine.Probed{ClockKnown: true, Clock: ahead})}, want.severity, want.says, "")
	}
	says(t, "not known", []finding.Finding{clock(engine.Probed{})}, finding.OK, "no member", "")
}

package doctor

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/fleet"
	"mxcert/cmd/mxcert/internal/engine"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// mayDiffer is how far clocks may differ without a word: certificates and leases are judged by different clocks.
const mayDiffer = 30 * time.Second

// fleet looks at the fleet of this host. It changes nothing.
func (d *Doctor) fleet(ctx context.Context) []finding.Finding {
	of := d.Runner.Host.Fleet
	if _, err := of.Identity(); d.Held != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return []finding.Finding{called("fleet-identity", well("only the service can read the identity of this host (%s)", of.Name).Next("mxcert fleet status asks with its secrets: "+d.Held))}
	}
	member, leave, err := engine.Join(of, engine.Process{Release: d.Runner.Release, Looks: true}, d.Disk, slog.New(slog.DiscardHandler))
	if err != nil {
		return []finding.Finding{called("fleet-engine", bad("%s", report.OneLine(err.Error())).Next(report.HintOf(err)))}
	}
	defer func() { _ = leave() }()
	found, _, _ := LookAtFleet(ctx, of, member) // the findings say what is wrong
	return found
}

// LookAtFleet checks whether this host can take part in its fleet: with findings whose ids begin with fleet-, and what the store says. err is why
// the store cannot be used; then what needs it was not looked at.
func LookAtFleet(ctx context.Context, of *wanted.Fleet, member *fleet.Member) (found []finding.Finding, seen fleet.Overview, err error) {
	add := func(id string, f finding.Finding) { found = append(found, called("fleet-"+id, f)) }
	before := member.Health() // what this host knows from its disk
	identity, err := of.Identity()
	if err != nil {
		add("identity", bad("%s%s", report.OneLine(err.Error()), since(before)).Next(report.HintOf(err)))
		return found, seen, err
	}
	own := string(identity.Recipient())
	add("identity", well("this host is %s in the fleet %s; its recipient is %s", of.Host, of.Name, own))
	add("client", client(of, time.Now()))
	probed := engine.Probe(ctx, of)
	if err = probed.Err; err == nil {
		err = member.Join(ctx)
	}
	if err != nil {
		add("engine", bad("%s%s", report.OneLine(err.Error()), since(before)).Next(orText(report.HintOf(err), member.Health().Hint)))
		return found, seen, err
	}
	add("engine", well("etcd (cluster %s) answers, is this fleet's or empty, and lets this host read and write the keys of its fleet", probed.Cluster))
	if text := since(before); text != "" {
		add("engine", doubtful("when mxcert last asked etcd in its own work, that failed: %s%s", before.Reason, text).Next(before.Hint))
	}
	if probed.Beyond && secured(of) {
		add("engine", doubtful("this host may also read what is outside of the prefix of its fleet").
			Next("give its user a role for "+engine.Prefix(of.Name)+" alone, and switch auth on; README.md has the lines"))
	}
	add("clock", clock(probed))
	if seen, err = member.Overview(ctx); err != nil {
		add("engine", bad("%s", report.OneLine(err.Error())).Next(report.HintOf(err)))
		return found, seen, err
	}
	for _, fault := range member.Health().Faults {
		add("fault", bad("%s", fault).Next("this host goes on with what is on its disk; mxcert-fleet(7)"))
	}
	found = append(found, trust(own, of.Host, seen)...)
	add("hosts", hosts(of, seen))
	return found, seen, nil
}

// since says from when on a store cannot be used, as far as this host knew before it was asked now.
func since(h fleet.Health) string {
	if h.Up || h.Since.IsZero() {
		return ""
	}
	return "; orders and changes of keys wait since " + report.Minute(h.Since)
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// secured reports whether etcd is reached by TLS.
func secured(of *wanted.Fleet) bool {
	return len(of.Endpoints) > 0 && strings.HasPrefix(of.Endpoints[0], "https://")
}

// client judges the certificate by which etcd knows this host.
func client(of *wanted.Fleet, now time.Time) finding.Finding {
	if !secured(of) {
		return well("etcd is reached without a client certificate, at a loopback address")
	}
	leaf, err := of.ClientCertificate()
	if err != nil {
		return bad("%s", err).Next(report.HintOf(err))
	}
	text, until := leaf.Subject.CommonName, report.Minute(leaf.NotAfter)
	if wanted.EndsSoon(leaf, now) {
		return doubtful("the client certificate %q, by which etcd knows this host, ends at %s", text, until).
			Next(wanted.RenewClient)
	}
	return well("the client certificate is that of the user %q, and is valid until %s", text, until)
}

func clock(p engine.Probed) finding.Finding {
	switch ahead := p.Clock.Round(time.Second); {
	case !p.ClockKnown:
		return well("no member of etcd has said what time it is")
	case ahead.Abs() > mayDiffer:
		return doubtful("the clock of this host is %s %s that of etcd", ahead.Abs(), map[bool]string{true: "ahead of", false: "behind"}[ahead > 0]).
			Next("have chrony or systemd-timesyncd set the clocks of all hosts and members")
	}
	return well("the clocks of this host and of etcd agree")
}

// recipientRemoved is the state of a recipient that was removed for good.
const recipientRemoved = "removed"

// trust compares whom this host trusts with who takes part.
func trust(own, host string, seen fleet.Overview) (found []finding.Finding) {
	add := func(f finding.Finding) { found = append(found, called("fleet-trust", f)) }
	trusted, owned := map[string]bool{own: true}, map[string]bool{own: true}
	for _, t := range seen.Recipients {
		trusted[t.Recipient] = t.State != recipientRemoved
		owned[t.Recipient] = owned[t.Recipient] || t.State == recipientRemoved
	}
	if !trusted[own] {
		add(bad("the recipient of this host was removed from the fleet, which is for good").Next("make a new identity with age-keygen, and add its recipient on another host"))
		return found
	}
	for _, h := range seen.Hosts {
		owned[h.Recipient] = true
		if h.Recipient == own && h.Host != host {
			add(doubtful("this host has the same identity as %s: whoever removes one of them removes both", h.Host).
				Next("make an identity of its own with age-keygen; if this host was called " + h.Host + " before, run: mxcert fleet forget " + h.Host))
		}
		if h.Recipient != "" && !trusted[h.Recipient] {
			add(doubtful("this host does not trust %s (%s), so it takes nothing from it", h.Host, h.Recipient).
				Next("if it is one of yours, add it to fleet.recipients on all hosts, or: mxcert fleet recipients add " + h.Recipient + " --host " + h.Host))
		}
	}
	spare := 0
	for recipient, is := range trusted {
		if is && !owned[recipient] {
			spare++
		}
	}
	if spare == 0 {
		add(doubtful("each recipient that this host trusts is that of a host, and none is for recovery").
			Next("make an identity with age-keygen, add its recipient to fleet.recipients, and keep it offline"))
	}
	if len(found) == 0 {
		add(well("this host trusts all hosts that take part, and a recipient that none of them has, for recovery"))
	}
	return found
}

// hosts says who takes part.
func hosts(of *wanted.Fleet, seen fleet.Overview) finding.Finding {
	var names, away []string
	for _, h := range seen.Hosts {
		names = append(names, h.Host)
		if !h.Alive && h.Host != of.Host {
			away = append(away, h.Host+" (since "+report.Minute(h.Seen)+")")
		}
	}
	switch {
	case len(away) > 0:
		return doubtful("away: %s", strings.Join(away, ", ")).Next("start mxcert there; or, if a host does not come back, mxcert fleet forget HOST, so that old TLSA records do not wait for it")
	case len(names) == 0:
		return well("no host has taken part yet: this one begins the fleet")
	}
	return well("known so far: %s", strings.Join(names, ", "))
}

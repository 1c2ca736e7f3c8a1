package dane

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// longTTL is the longest TTL about which there is no warning.
const longTTL = 24 * time.Hour

// warn notes what an operator should know about the records that are there.
func (p *planner) warn() {
	for i, owner := range p.f.Owners {
		v := p.f.view(i)
		p.warnIgnored(owner, v)
		var seen []string
		for _, set := range v.Sets() {
			if set.TTL > longTTL && len(set.Records) > 0 {
				p.say("the records of %s have a TTL of %s, so a change of keys takes more than twice as long: lower it to an hour", owner.Name(), finding.Duration(set.TTL))
			}
			for _, text := range set.Records {
				if r, err := resolve.ParseTLSA(text); err == nil && !slices.Contains(seen, text) {
					seen = append(seen, text)
					p.warnRecord(owner, r)
				}
			}
		}
	}
	p.warnUnclaimed()
	if why := p.out.Expiring; why != "" {
		p.say("%s", why)
	}
}

func (p *planner) say(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.out.Warnings, text) {
		p.out.Warnings = append(p.out.Warnings, text)
	}
}

// warnIgnored keeps servers visible that do not count.
func (p *planner) warnIgnored(owner Owner, v View) {
	var names []string
	for _, step := range v.Steps {
		for n, ignored := range step.Ignored {
			if ignored && n < len(step.Served.Answers) {
				server := step.Served.Answers[n].Server
				names = append(names, server.String())
			}
		}
	}
	if len(names) > 0 {
		p.say("dane.ignore_servers: %s may give senders other records of %s than mxcert counts on", strings.Join(names, ", "), owner.Name())
	}
}

// warnRecord warns of a record that cannot be kept right by itself.
func (p *planner) warnRecord(owner Owner, r resolve.TLSA) {
	kind := fmt.Sprintf("%d %d %d", r.Usage, r.Selector, r.MatchingType)
	switch {
	case !usable(r):
		p.say("%s has the TLSA record %s, which senders cannot use (RFC 7672 section 3.1.3): remove it", owner.Name(), kind)
	case r.Usage == 2:
		p.say("%s has the TLSA record %s of an issuer: it fails as soon as the CA uses another intermediate certificate; publish 3 1 1 of your keys instead", owner.Name(), kind)
	case r.Selector == 0:
		p.say("%s has the TLSA record %s, which fits one certificate only: it cannot be prepared before a renewal; publish 3 1 1 instead", owner.Name(), kind)
	}
}

// warnUnclaimed tells of records of others that fit our keys: mxcert uses them and does not remove them.
func (p *planner) warnUnclaimed() {
	if p.f.Settings.Mode != Publish {
		return
	}
	for _, t := range p.targets {
		n := 0
		for _, text := range t.listed {
			r, err := resolve.ParseTLSA(text)
			if err == nil && !p.mine(t.place, text) && p.fitsOurs(r) {
				n++
			}
		}
		if n > 0 {
			them := verb(n, "it", "them")
			p.say("%d %s of %s %s the keys of this certificate, but mxcert did not add %s and will not remove %s when the key changes; `mxcert tlsa publish %s --adopt` takes %s over",
				n, verb(n, "record", "records"), strings.TrimSuffix(t.place.Name, "."), verb(n, "fits", "fit"), them, them, finding.Word(cmp.Or(p.f.Name, "NAME")), them)
		}
	}
}

// fitsOurs reports whether a record names a key of this certificate, an old one included.
func (p *planner) fitsOurs(r resolve.TLSA) bool {
	if slices.ContainsFunc(slices.Concat(p.f.Current, p.f.Next), func(k KeyOf) bool { return k.Fits(r) }) {
		return true
	}
	return r.Usage == 3 && r.Selector == 1 && r.MatchingType == 1 && p.s.known(p.f, fmt.Sprintf("%x", r.Data))
}

package verdict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// Judged is one address of a host of a domain, with its verdicts.
type Judged struct {
	Host     string
	Address  netip.Addr // invalid if the host has none, or none was tried
	Verdicts map[Kind]Verdict
}

// Domain says what finally happens to a mail for a domain, for each kind of sender. It takes the hosts in the order in which senders try
// them, with all their addresses. The result is fail if no host is left for that kind of sender, or if the mail goes in the clear. Without
// usable MX records no sender delivers, and none falls back to the address of the domain (RFC 5321 section 5.1).
func Domain(domain string, mx resolve.Set[resolve.MX], hosts []Judged) map[Kind]Verdict {
	all := map[Kind]Verdict{}
	for _, kind := range Kinds {
		all[kind] = overall(kind, domain, mx, hosts)
	}
	return all
}

func overall(kind Kind, domain string, mx resolve.Set[resolve.MX], hosts []Judged) Verdict {
	switch {
	case broken(mx.State):
		failure := ""
		if kind == DANE {
			failure = typeDNS
		}
		return fail(Skip, failure, "mail for %s waits, because nobody can ask for its MX records: %s", domain, trouble(mx.Answer))
	case len(mx.Records) == 1 && mx.Records[0].Host == "":
		return notApplicable(Bounce, "%s takes no mail: it has a null MX record (RFC 7505)", domain)
	case mx.Denied() && mx.Missing:
		return fail(Bounce, "", "nobody can send mail to %s, because it does not exist in DNS", domain)
	case len(hosts) == 0:
		return notJudged("mxcert looked at no host of %s", domain)
	}
	return walk{kind: kind, domain: domain, mx: mx, hosts: slices.DeleteFunc(slices.Clone(hosts), func(h Judged) bool { return h.Host == "" })}.end()
}

// walk goes through the hosts as a sender does.
type walk struct {
	kind   Kind
	domain string
	mx     resolve.Set[resolve.MX]
	hosts  []Judged
}

// end is the verdict of the first hosts of one preference that do not turn the sender away.
func (w walk) end() Verdict {
	var passed, unknown int
	var why string // of the first verdict that is not known
	for start := 0; start < len(w.hosts); {
		stop := start
		var taken []Judged
		for ; stop < len(w.hosts) && w.preference(w.hosts[stop]) == w.preference(w.hosts[start]); stop++ {
			switch v := w.verdict(w.hosts[stop]); {
			case v.NotJudged:
				unknown++
				why = cmp.Or(why, v.Reason)
			case v.Action == Skip || v.Action == Bounce:
				passed++
			default:
				taken = append(taken, w.hosts[stop])
			}
		}
		if len(taken) > 0 {
			return w.taken(taken, passed, unknown)
		}
		start = stop
	}
	if unknown > 0 {
		return notJudged("%s", w.unjudged(unknown, why))
	}
	return w.nobody()
}

// unjudged says of how many addresses the verdict is not known, and why.
func (w walk) unjudged(n int, why string) string {
	why = finding.Quote(why, 4*finding.MostQuoted)
	if len(w.hosts) == 1 {
		return why
	}
	return fmt.Sprintf("mxcert cannot judge %d of %d addresses of %s; the first: %s", n, len(w.hosts), w.domain, why)
}

func (w walk) verdict(h Judged) Verdict { return h.Verdicts[w.kind] }

// preference is that of the host's MX record; 0 if the domain has none and is its own host.
func (w walk) preference(h Judged) uint16 {
	for _, record := range w.mx.Records {
		if sameName(record.Host, h.Host) {
			return record.Preference
		}
	}
	return 0
}

// taken is the verdict of hosts among which a sender chooses by chance: of several outcomes, the one with the least protection.
func (w walk) taken(hosts []Judged, passed, unknown int) Verdict {
	rank := []Action{ClearText, Unauthenticated, Deliver}
	worst := slices.MinFunc(hosts, func(a, b Judged) int {
		return cmp.Compare(slices.Index(rank, w.verdict(a).Action), slices.Index(rank, w.verdict(b).Action))
	})
	v := w.verdict(worst)
	v.Reason = finding.Quote(v.Reason, 4*finding.MostQuoted)
	if passed > 0 {
		v.Reason += fmt.Sprintf("; a sender goes on there after %d %s that it skips", passed, plural(passed))
	}
	if unknown > 0 {
		v.Reason += fmt.Sprintf("; mxcert cannot judge %d other %s from here", unknown, plural(unknown))
	}
	return v
}

// nobody is the verdict if each host turns the sender away.
func (w walk) nobody() Verdict {
	if len(w.hosts) == 0 {
		return notJudged("mxcert looked at no host of %s", w.domain)
	}
	// The most telling: that a host was refused finally, then that it does not offer what was asked for, then that it was skipped.
	telling := func(v Verdict) int {
		switch {
		case v.Action == Skip:
			return 2
		case v.Result == Fail:
			return 0
		}
		return 1
	}
	v := w.verdict(slices.MinFunc(w.hosts, func(a, b Judged) int { return cmp.Compare(telling(w.verdict(a)), telling(w.verdict(b))) }))
	if len(w.hosts) > 1 {
		v.Reason = fmt.Sprintf("no host of %s is left for this sender; the first one: %s", w.domain, v.Reason)
	}
	return v
}

func plural(n int) string {
	if n == 1 {
		return "address"
	}
	return "addresses"
}

package verdict

import (
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// tlsaRule compares chains with usable TLSA records.
type tlsaRule struct {
	names   []string // of which the leaf must have one with usage 2
	anyName bool     // the leaf need not have one
	at      time.Time
}

// tlsaCheck compares what a host shows with the usable TLSA records of a base domain.
type tlsaCheck struct {
	tlsaRule
	j    *judge
	base string
	all  []resolve.TLSA
}

// chain checks one chain against some of the records. One that fits is enough (RFC 7671 section 5).
func (t tlsaRule) chain(sent []*certificate, records []resolve.TLSA) check {
	if slices.ContainsFunc(records, func(r resolve.TLSA) bool { return r.Usage == usageEE && matches(r, sent[0]) }) {
		return check{}
	}
	if len(sent) > mostCertificates {
		return strange("it sends %d certificates, and senders stop at different numbers", len(sent))
	}
	best := wrong(typeOther, "no record matches %s", what(records))
	var list []*certificate
	odd := ""
	for _, r := range records {
		if r.Usage == usageTA {
			more, peculiarity, _ := anchors(r, sent)
			list = append(list, more...)
			odd += peculiarity
		}
		if peculiar(r) {
			odd = "crypto/x509 cannot read the TLSA record " + combination(r)
		}
	}
	if len(list) > 0 {
		if best = t.issued(list, sent); best.ok() {
			return best
		}
		if best.reason != "" && best.kind != typeName {
			best.reason = "on the way to the issuer that a usage 2 record names, " + best.reason
		}
	}
	if odd != "" {
		return strange("%s", odd)
	}
	return best
}

// issued checks the path to one of the anchors, and the names of the leaf.
func (t tlsaRule) issued(list, sent []*certificate) check {
	if c := below(list, sent, t.at); !c.ok() {
		return c
	}
	if leaf := sent[0]; !t.anyName && !named(leaf, t.names...) && !namedByCN(leaf, t.names...) {
		return wrong(typeName, "it is not valid for %s, but for %s", strings.Join(t.names, " or "), has(leaf))
	}
	return check{}
}

// what says which certificates a record of these usages can match.
func what(records []resolve.TLSA) string {
	ta := slices.ContainsFunc(records, func(r resolve.TLSA) bool { return r.Usage == usageTA })
	ee := slices.ContainsFunc(records, func(r resolve.TLSA) bool { return r.Usage == usageEE })
	switch {
	case ta && ee:
		return "its key or an issuer that is sent with it"
	case ta:
		return "an issuer that is sent with it"
	}
	return "its key"
}

// combinations finds published combinations of usage, selector and matching type of which no record matches. That each one matches is the
// publisher's duty (RFC 7671 section 9 and RFC 7672 section 3.1): senders with other capabilities use others.
func (t tlsaCheck) combinations(which string, sent []*certificate) {
	matching, missing := map[string]bool{}, []string{}
	for _, r := range t.all {
		if t.touches(r, sent) {
			matching[combination(r)] = true
		}
	}
	if len(matching) == 0 { // the verdict says so
		return
	}
	for _, r := range t.all {
		if name := combination(r); !matching[name] && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		t.j.add(finding.New("tlsa-combination", finding.Warning, "no TLSA record %s of %s matches %s of %s", strings.Join(missing, " and no record "), t.base, which, t.j.who()).
			About(t.base).Next("publish a matching record of each combination, or remove the combination: senders choose among them (RFC 7671 section 9)"))
	}
}

// touches reports whether a record matches anything in a chain that its usage is about.
func (t tlsaCheck) touches(r resolve.TLSA, sent []*certificate) bool {
	if r.Usage == usageEE {
		return matches(r, sent[0])
	}
	list, _, _ := anchors(r, sent)
	return len(list) > 0
}

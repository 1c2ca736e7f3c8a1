package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// detail is one line of what is said about an address.
type detail struct{ what, text string }

// printDetails says what was found at each address. Addresses of a host with which all is the same share one text.
func printDetails(out sheet, r verifyReport) {
	said := map[finding.Finding]bool{}
	for _, group := range byMX(r.Hosts) {
		group = unsaid(group, said)
		for len(group) > 0 {
			first := r.detailsOf(group[0])
			names, rest := []string{placeOf(group[0])}, []hostReport{}
			for _, h := range group[1:] {
				if alike(first, group[0], r.detailsOf(h), h) {
					names = append(names, placeOf(h))
				} else {
					rest = append(rest, h)
				}
			}
			fmt.Fprintln(out)
			out.text(2, "%s at %s%s", foreign(group[0].MX), strings.Join(names, ", "), r.domainOf(group[0]))
			for _, l := range first {
				out.line(l.what, "%s", l.text)
			}
			group = rest
		}
	}
}

func placeOf(h hostReport) string {
	if place := addressOf(h); place != "" {
		return place
	}
	return "no address"
}

// unsaid leaves out findings about a whole domain that were printed with an earlier host, and notes the others.
func unsaid(group []hostReport, said map[finding.Finding]bool) []hostReport {
	earlier := maps.Clone(said)
	for i, h := range group {
		aboutDomain := func(f finding.Finding) bool { return h.Domain != "" && f.Subject == h.Domain }
		group[i].Findings = slices.DeleteFunc(slices.Clone(h.Findings), func(f finding.Finding) bool { return aboutDomain(f) && earlier[f] })
		for _, f := range h.Findings {
			if aboutDomain(f) {
				said[f] = true
			}
		}
	}
	return group
}

// alike reports whether the same is said of two addresses, but for the addresses themselves.
func alike(a []detail, at hostReport, b []detail, other hostReport) bool {
	return slices.EqualFunc(a, b, func(x, y detail) bool { return x == y || x.anywhere(at) == y.anywhere(other) })
}

// anywhere returns a detail without the address, to compare it.
func (d detail) anywhere(h hostReport) detail {
	if h.Address != "" {
		d.text = strings.ReplaceAll(d.text, h.Address, "…")
	}
	return d
}

func (r verifyReport) detailsOf(h hostReport) []detail {
	verdicts := maps.Clone(h.Verdicts)
	if v := verdicts[verdict.MTASTS]; v.Type != "" && r.saidOfDomain(h, v) { // why the policy is not usable is long
		v.Reason = "as said of " + h.Domain
		verdicts[verdict.MTASTS] = v
	}
	return slices.Concat(certificateLines(h), sctLines(h.SCTs), verdictLines(verdicts), findingLines(h.Findings))
}

// saidOfDomain reports whether the domain of a host asks for nothing by MTA-STS for the same reason, which is printed there.
func (r verifyReport) saidOfDomain(h hostReport, v verdictReport) bool {
	return v.Result == verdict.NotApplicable && slices.ContainsFunc(r.Domains, func(d domainReport) bool {
		return d.Domain == h.Domain && d.Verdicts[verdict.MTASTS].Result == verdict.NotApplicable && d.Verdicts[verdict.MTASTS].Reason == v.Reason
	})
}

// certificateLines says which certificates an address shows, and which handshakes failed, if no finding says it. Of several that failed for
// the same reason, the first is enough.
func certificateLines(h hostReport) (lines []detail) {
	var serials, reasons []string
	for _, s := range h.Handshakes {
		switch {
		case s.Serial != "" && !slices.Contains(serials, s.Serial):
			serials = append(serials, s.Serial)
			lines = append(lines, detail{"certificate", fmt.Sprintf("serial %s, %s, valid until %s; %d sent; %s %s", s.Serial, s.algorithm, s.NotAfter, s.Chain, s.TLS, s.Cipher)})
		case s.Serial == "" && !s.ordinary() && !said(s, h.Findings):
			why := s.Error
			if _, after, found := strings.Cut(why, " failed at step "); found {
				why = after
			}
			if !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
				lines = append(lines, detail{"handshake", s.Error})
			}
		}
	}
	return lines
}

// ordinary reports whether a handshake failed as it does with a good server: most have a key of one type only, and some one version of TLS.
func (s handshakeReport) ordinary() bool {
	return s.Kind == starttls.KindKeyTypeNotOffered || s.Kind == starttls.KindTLSVersion && s.Key != string(starttls.Any)
}

// said reports whether a finding is about the failure of a handshake.
func said(s handshakeReport, findings []finding.Finding) bool {
	return slices.ContainsFunc(findings, func(f finding.Finding) bool {
		return f.ID == s.Kind || s.Error != "" && strings.Contains(f.Message, s.Error)
	})
}

// verdictLines gives the reason of each verdict, each once.
func verdictLines(verdicts map[verdict.Kind]verdictReport) (lines []detail) {
	for _, kind := range verdict.Kinds {
		l := verdictLine(kind, verdicts[kind])
		if i := slices.IndexFunc(lines, func(earlier detail) bool { return earlier.text == l.text }); i >= 0 {
			l.text = "as " + lines[i].what
		}
		lines = append(lines, l)
	}
	return lines
}

func verdictLine(kind verdict.Kind, v verdictReport) detail {
	text := cellOf(v)
	if v.Action != "" {
		text += ", " + string(v.Action)
	}
	if v.Type != "" {
		text += " (" + v.Type + ")"
	}
	text += ": " + v.Reason
	if v.NotCounted != "" {
		text += " (" + v.NotCounted + ")"
	}
	return detail{string(kind), text}
}

// findingLines gives each finding and what to do next. What concerns several kinds of senders is said once, and so is each next step of it.
func findingLines(findings []finding.Finding) (lines []detail) {
	var done []finding.Finding
	for i, f := range findings {
		same := func(g finding.Finding) bool {
			return g.ID == f.ID && g.Severity == f.Severity && g.Message == f.Message
		}
		if slices.ContainsFunc(done, same) {
			continue
		}
		done = append(done, f)
		lines = append(lines, detail{string(f.Severity), f.ID + ": " + f.Message})
		var hints []string
		for _, g := range findings[i:] {
			if same(g) && g.Hint != "" && !slices.Contains(hints, g.Hint) {
				hints = append(hints, g.Hint)
				lines = append(lines, detail{"next step", g.Hint})
			}
		}
	}
	return lines
}

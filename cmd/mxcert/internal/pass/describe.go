package pass

import (
	"fmt"
	"slices"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
)

// Describe reports what is wanted and what is issued: names, certificates, files and the next renewal.
func Describe(want wanted.Certificate, have *issued.Lineage) report.Certificate {
	r := newReport(want)
	r.LastSuccess = have.Record.LastSuccess
	var stapled *staples
	if want.Stapled() {
		stapled = readStaples(have.Lineage)
	}
	for i, key := range want.Keys {
		b := have.Bundles[i]
		if b == nil {
			continue
		}
		if why := have.Revoked(key); why != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the %s certificate with serial %s has to be replaced: %s", key, b.Serial(), why))
		}
		r.Keys = append(r.Keys, keyReport(key, b))
		r.Keys[len(r.Keys)-1].OCSP = stapleReport(want, stapled, b)
		if renew := have.RenewalTime(i, want.Windows).UTC(); r.NextRenewal == nil || renew.Before(*r.NextRenewal) {
			r.NextRenewal = &renew
		}
		if have.Record.Slot(key).RolledBack {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the earlier %s certificate stays in service, because somebody rolled back, until it must be renewed at %s; mxcert deploy %s goes forward to the newest",
				key, report.Minute(have.RenewalTime(i, want.Windows)), want.Name))
		}
	}
	if r.NextRenewal != nil {
		r.RenewalDue = *r.NextRenewal
	}
	r.Files = append(r.Files, files(want, have.Bundles)...)
	r.Missing = missing(want, have)
	addLeftOut(&r, want, have)
	addNames(&r, want, have)
	return r
}

// newReport returns the report of a certificate about which only is known what is wanted.
func newReport(want wanted.Certificate) report.Certificate {
	r := report.New(want.Name, want.Names)
	r.Reasons = want.Reasons()
	return r
}

// addNames adds what looks at DNS have found and what comes of it.
func addNames(r *report.Certificate, want wanted.Certificate, have *issued.Lineage) {
	for i, key := range want.Keys {
		g, err := have.Current(key)
		if err != nil || have.Bundles[i] == nil {
			continue
		}
		for _, name := range g.Names {
			if !slices.Contains(want.Names, name) && wasFound(want, g, name) && !slices.Contains(r.Leaving, name) {
				r.Leaving = append(r.Leaving, name)
			}
		}
	}
	if len(want.MailDomains) == 0 {
		return
	}
	_, names, note := WithFound(want, have.Lineage)
	if note != "" {
		r.Warnings = append(r.Warnings, note)
	}
	r.Awaited = awaited(want, names)
	r.Senders = senders(have.Lineage)
	for _, f := range names.Findings {
		if f.Subject != "" && !slices.Contains(want.MailDomains, f.Subject) {
			continue // the configuration had this domain when mxcert looked
		}
		r.Warnings = append(r.Warnings, findingText(f))
	}
}

// senders returns what senders met when the daemon last looked; nil if that is not known. What cannot be read is stored again within the
// hour.
func senders(lineage *state.Lineage) *report.Senders {
	var s report.Senders
	if lineage.Senders(&s) != nil {
		return nil
	}
	for i, domain := range s.Domains {
		s.Domains[i] = finding.Quote(domain, finding.MostQuoted)
	}
	for i, f := range s.Findings { // root reads what the service's user can write
		s.Findings[i].Message, s.Findings[i].Hint = finding.QuoteLink(f.Message, finding.MostQuoted), finding.QuoteLink(f.Hint, finding.MostQuoted)
	}
	for i, h := range s.Hosts {
		s.Hosts[i].MX, s.Hosts[i].Domain, s.Hosts[i].Address = finding.Quote(h.MX, finding.MostQuoted), finding.Quote(h.Domain, finding.MostQuoted), finding.Quote(h.Address, finding.MostQuoted)
		for kind, v := range h.Verdicts {
			v.Reason = finding.QuoteLink(v.Reason, finding.MostQuoted)
			h.Verdicts[kind] = v
		}
	}
	return &s
}

// awaited lists the names that wait for their second look.
func awaited(want wanted.Certificate, names state.Names) (list []report.Awaited) {
	for _, s := range names.Seen {
		if !s.Wanted && !slices.Contains(want.Names, s.Name) {
			list = append(list, report.Awaited{Name: s.Name, Reason: s.Reason, Since: s.Since.At, Until: s.Since.At.Add(want.ConfirmAfter)})
		}
	}
	return list
}

func findingText(f finding.Finding) string {
	if f.Hint == "" {
		return f.Message
	}
	return f.Message + "; " + f.Hint
}

// addLeftOut adds which optional names the current certificates do not have, why, and when mxcert tries them again.
func addLeftOut(r *report.Certificate, want wanted.Certificate, have *issued.Lineage) {
	for _, name := range want.Optional {
		n := leftOut(have.Record, name)
		if n < 0 || have.Any() && !slices.Contains(r.Missing, name) {
			continue
		}
		l := have.Record.LeftOut[n]
		r.LeftOut = append(r.LeftOut, report.LeftOut{Name: l.Name, Since: l.Since, Reason: l.Reason, NextTry: l.NextTry})
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s is left out since %s: %s; mxcert tries it again at %s, or at once with mxcert renew %s --now",
			l.Name, report.Minute(l.Since), l.Reason, report.Minute(l.NextTry), want.Name))
	}
}

// missing lists the wanted names that a current certificate does not have; none before there is a certificate.
func missing(want wanted.Certificate, have *issued.Lineage) (names []string) {
	for _, b := range have.Bundles {
		if b == nil {
			continue
		}
		for _, name := range want.Names {
			covered := slices.Contains(b.Leaf().DNSNames, name) || b.Leaf().VerifyHostname(name) == nil
			if !covered && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func keyReport(key bundle.KeyType, b *bundle.Bundle) report.Key {
	leaf := b.Leaf()
	return report.Key{Key: string(key), Serial: b.Serial(), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Issuer: leaf.Issuer.CommonName, SPKI: b.SPKI()}
}

// files lists the paths of all places with the serial numbers of the current certificates. It lists each path once, because certificates
// can share an SNI map.
func files(want wanted.Certificate, bundles []*bundle.Bundle) []string {
	var once []string
	for i := range want.Keys {
		for _, place := range want.Places {
			for _, path := range place.Targets[i].Places(bundles[i]) {
				if !slices.Contains(once, path) {
					once = append(once, path)
				}
			}
		}
	}
	return once
}

func endpointReports(want wanted.Certificate, results []served.Result) []report.Endpoint {
	list := make([]report.Endpoint, len(results))
	for i, r := range results {
		list[i] = report.Endpoint{Address: r.Address, ServerName: r.ServerName, Key: r.Key, Serial: r.Serial, Matches: r.Matches, SeenAt: r.At}
		if r.Shown != nil {
			list[i].NotAfter = new(r.Shown.Chain[0].NotAfter.UTC())
		}
		if sent, _ := sentTo(want, r); sent != "" {
			list[i].OCSP = string(sent)
		}
		if r.Err != nil {
			list[i].Error, list[i].Kind, list[i].Hint = r.Err.Error(), report.KindOf(r.Err), report.HintOf(r.Err)
		}
	}
	return list
}

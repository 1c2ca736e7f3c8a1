package survey

import (
	"crypto/x509"
	"slices"

	"mxcert/acme/finding"
	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// view is one endpoint as the rules for findings see it.
type view struct {
	verdict.Facts
	ours     bool
	deployed []*x509.Certificate // of a host of ours
	list     []finding.Finding
}

func (v *view) add(id string, severity finding.Severity, hint, format string, values ...any) {
	v.list = append(v.list, finding.New(id, severity, format, values...).Next(hint))
}

// findings says what a postmaster should know about one endpoint, beside the verdicts.
func (s *survey) findings(h *host, e *endpoint, facts verdict.Facts) []finding.Finding {
	v := &view{Facts: facts, ours: e.address.IsValid() && s.ours(e.address)}
	if v.ours && s.Deployed != nil {
		v.deployed = s.Deployed(facts.Host)
	}
	if facts.MX == nil && !h.own && e == h.endpoints[0] {
		v.aboutHost(h)
	}
	if facts.NotAsked != "" {
		v.add("not-asked", finding.Warning, "allow more connections or time: --connections, --full, --timeout", "mxcert did not connect to %s: %s", quote(facts.Host), facts.NotAsked)
	}
	if len(facts.Handshakes) > 0 {
		v.conversation()
		v.versions()
		v.names()
		v.certificates()
	}
	return merged(nil, v.list)
}

// aboutHost says what is wrong with a host that was named itself.
func (v *view) aboutHost(h *host) {
	if failed := firstError(h.route.Addresses); failed != nil {
		severity := finding.Error
		if len(h.addresses) > 0 { // senders without DANE deliver to the others
			severity = finding.Warning
		}
		v.add("mx-host-unresolvable", severity, "check the name servers of the host and its DNSSEC signatures", "addresses of %s cannot be found: %v", quote(v.Host), failed)
	} else if len(h.addresses) == 0 {
		v.add("mx-host-missing", finding.Error, "check the spelling, or add address records", "%s has no address", quote(v.Host))
	}
}

// with returns the handshake with a key type and a name in SNI, or nil.
func (v *view) with(key starttls.KeyType, serverName string) *verdict.Handshake {
	for i := range v.Handshakes {
		if v.Handshakes[i].Ask == key && v.Handshakes[i].ServerName == serverName {
			return &v.Handshakes[i]
		}
	}
	return nil
}

// merged returns a list with what more has beside it. Two handshakes often show the same.
func merged(list, more []finding.Finding) []finding.Finding {
	for _, f := range more {
		same := func(g finding.Finding) bool {
			return g.ID == f.ID && (g.Message == f.Message && g.Subject == f.Subject || f.ID == starttls.KindNotJudged && f.Subject != string(verdict.DANE))
		}
		if i := slices.IndexFunc(list, same); i < 0 {
			list = append(list, f)
		}
	}
	return list
}

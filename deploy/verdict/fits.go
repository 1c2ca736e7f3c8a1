package verdict

import (
	"crypto/x509"
	"slices"
	"time"

	"mxcert/acme/resolve"
)

// Fit is what senders that look at a TLSA record set decide about a chain.
type Fit struct {
	Accepts   bool   // some usable record fits (RFC 7671 section 5), or there is no record, or none is usable: then nothing is checked
	Checked   bool   // there is a usable record, so senders check
	NotJudged string // why mxcert cannot know, as a clause; then Accepts is false
	Reason    string // why not, as a clause; "" if it accepts
}

// FitTLSA judges one chain, leaf first as it is sent, against one record set. Names are the reference names of usage 2 (RFC 7672 section
// 3.2.2). With agile it judges as senders with digest agility do, which use only the strongest digest of each usage and selector (RFC 7671
// section 9). An empty chain fits no usable record.
func FitTLSA(records []resolve.TLSA, chain []*x509.Certificate, names []string, at time.Time, agile bool) Fit {
	usable := slices.DeleteFunc(slices.Clone(records), func(r resolve.TLSA) bool { return useless(r) != "" })
	switch {
	case len(usable) == 0:
		return Fit{Accepts: true}
	case len(chain) == 0:
		return Fit{Checked: true, Reason: "there is no certificate"}
	}
	if agile {
		usable = strongest(usable)
	}
	c := tlsaRule{names: names, at: at}.chain(chain, usable)
	return Fit{Accepts: c.ok(), Checked: true, NotJudged: c.odd, Reason: c.reason}
}

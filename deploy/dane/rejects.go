package dane

import (
	"crypto/x509"
	"time"

	"mxcert/acme/state"
	"mxcert/deploy/verdict"
)

// Rejects says why some sender would not accept a chain, leaf first as it is sent: the clause is that of the first set that a sender may hold
// and that does not fit; "" if every sender accepts it. Names are the reference names of usage 2.
func (m Memory) Rejects(o Owner, names []string, chain []*x509.Certificate, s Settings, now state.Instant) string {
	for _, set := range m.Held(o, s) {
		if why := set.Rejects(names, chain, now.At); why != "" {
			return why
		}
	}
	return ""
}

// Rejects says why some sender that holds the set would not accept a chain; "" if every sender accepts it, or mxcert cannot judge it.
func (s Set) Rejects(names []string, chain []*x509.Certificate, at time.Time) string {
	for _, agile := range []bool{false, true} {
		if fit := verdict.FitTLSA(s.TLSA(), chain, names, at, agile); !fit.Accepts && fit.NotJudged == "" {
			return fit.Reason
		}
	}
	return ""
}

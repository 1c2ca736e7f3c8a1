package survey

import (
	"crypto/x509"
	"errors"
	"slices"

	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// ask is one handshake to make.
type ask struct {
	keyType    starttls.KeyType
	serverName string
}

// unknown is a name that no server knows (RFC 6761 section 6.4).
const unknown = "unknown.invalid"

// plan lists the handshakes after the first, the most telling first.
func plan(first verdict.Handshake, route verdict.Route, all bool) []ask {
	list := firstAsks(first, route)
	if all && !refusesEverybody(first.Err) {
		for _, name := range slices.Concat([]string{sni(route.Host)}, otherBases(route, false), []string{"", unknown}) {
			for _, key := range []starttls.KeyType{starttls.Any, starttls.ECDSA, starttls.RSA, starttls.TLS13} {
				list = append(list, ask{key, name})
			}
		}
	}
	done := []ask{{first.Ask, first.ServerName}}
	for _, a := range list {
		if !slices.Contains(done, a) {
			done = append(done, a)
		}
	}
	return done[1:]
}

// firstAsks puts the name of a DANE sender first, then the other key type, then what shows whether the server needs a name.
func firstAsks(first verdict.Handshake, route verdict.Route) (list []ask) {
	host := sni(route.Host)
	switch {
	case refusesEverybody(first.Err): // other key types and versions, too
		return []ask{{starttls.Any, ""}, {starttls.Any, unknown}}
	case kindOf(first.Err) == starttls.KindTLSVersion:
		return []ask{{starttls.OldTLS, host}, {starttls.Any, ""}, {starttls.RSA, host}, {starttls.ECDSA, host}}
	case first.Shown == nil: // the certificate of one key type may be better
		return []ask{{starttls.RSA, host}, {starttls.ECDSA, host}, {starttls.Any, ""}, {starttls.OldTLS, host}}
	}
	same, other := starttls.ECDSA, starttls.RSA
	if first.Shown.Chain[0].PublicKeyAlgorithm == x509.RSA {
		same, other = other, same
	}
	for _, base := range otherBases(route, true) {
		list = append(list, ask{starttls.Any, base}, ask{other, base})
	}
	return append(list, ask{other, host}, ask{starttls.Any, ""}, ask{starttls.Any, unknown}, ask{same, host})
}

// otherBases lists the TLSA base domains that are not the host's name itself.
func otherBases(route verdict.Route, withRecords bool) (names []string) {
	for _, base := range route.Bases {
		if base.Domain != route.Host && (!withRecords || len(base.TLSA.Records) > 0) {
			names = append(names, base.Domain)
		}
	}
	return names
}

// refusesEverybody reports whether a server refused all that any sender offers.
func refusesEverybody(err error) bool {
	e, ok := errors.AsType[*starttls.Error](err)
	return ok && e.Kind() == starttls.KindValidationFailure && e.Alert != 0
}

// Package verdict says what each kind of sender would decide about one address of one MX host, and about a domain. It is pure: [Facts] go
// in, a [Verdict] of each [Kind] and findings come out, and nothing is asked or connected here.
//
// The result follows the RFC of the kind, with its SHOULDs. If real senders decide otherwise, the finding senders-differ names them:
// Postfix, Exim (with GnuTLS or OpenSSL), mox, and the programs that give Postfix MTA-STS policies. crypto/x509 refuses certificates that
// OpenSSL and GnuTLS accept, and accepts a few that they refuse. Such a certificate is not judged: the verdict is n/a with NotJudged, and
// the finding not-judged has the openssl command that shows what a sender does.
//
// The IDs of findings: senders-differ, not-judged, no-validator, tlsa-combination, tlsa-unusable, sts-testing, sts-cached,
// dane-before-sts.
//
// Not supported: revocation (OCSP, CRL), certificate transparency, and certificates that a client fetches by itself (AIA).
package verdict

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/starttls"
)

// Kind is a kind of sender, by what it asks for.
type Kind string

// The kinds.
const (
	Opportunistic Kind = "opportunistic" // TLS if it is there, without a look at the certificate (RFC 3207, RFC 7435)
	PKIX          Kind = "pkix"          // a trusted certificate for the MX name (RFC 5280, RFC 9525)
	DANE          Kind = "dane"          // RFC 7672
	MTASTS        Kind = "mta_sts"       // RFC 8461
	RequireTLS    Kind = "requiretls"    // RFC 8689
)

// Kinds lists them in the order of reports.
//
//nolint:gochecknoglobals // a constant list
var Kinds = []Kind{Opportunistic, PKIX, DANE, MTASTS, RequireTLS}

// Result says whether the host satisfies what a kind of sender asks for.
type Result string

// The results.
const (
	Pass          Result = "pass"
	Fail          Result = "fail"
	NotApplicable Result = "n/a" // the kind has nothing to ask for here, or it cannot be judged; the reason says which
)

// Action is what the sender does with a mail at this address.
type Action string

// The actions.
const (
	Deliver         Action = "deliver"         // as the kind asks
	Unauthenticated Action = "unauthenticated" // over TLS, without knowing with whom
	ClearText       Action = "clear-text"      // without TLS
	Skip            Action = "skip"            // goes on with the next address or host; the mail waits if none is left
	Bounce          Action = "bounce"          // returns the mail
)

// Verdict is what one kind of sender decides.
type Verdict struct {
	Result    Result
	Action    Action // "" if it was not judged
	Type      string // result type of RFC 8460 section 4.3; "" if nothing failed
	Reason    string // one sentence, complete
	NotJudged bool   // n/a because mxcert cannot know, not because the kind asks for nothing
}

// Route is what a sender knows before it connects.
type Route struct {
	Domain    string                   // the next hop; "" if the host itself was named
	MX        *resolve.Set[resolve.MX] // nil if no MX records were asked for, because the host was named
	Host      string                   // as in the MX record: lower case, without the final dot
	Addresses []resolve.Answer         // how the questions for A and AAAA were answered
	Address   netip.Addr               // invalid if the host has none, or none was tried
	NotAsked  string                   // why no address was tried although the host has some: a clause; "" if one was tried or there is none
	Alias     *resolve.Set[string]     // the CNAME of Host, if it was asked for apart; its failure is a failure of the host
	Bases     []Base                   // where TLSA records were looked for, in order; empty if nothing was asked
	Policy    *mtasts.Found            // of Domain; nil if nobody looked
}

// Base is a TLSA base domain (RFC 7672 section 2.2.2) with what was found below it.
type Base struct {
	Domain string
	TLSA   resolve.Set[resolve.TLSA]
}

// Handshake is one handshake with the address.
type Handshake struct {
	ServerName string // SNI; "" for none
	Ask        starttls.KeyType
	Shown      *starttls.Result // nil if TLS was not established
	Err        error            // an *starttls.Error
}

// Facts are all that is known about one address and port.
type Facts struct {
	Route
	Port       int
	Handshakes []Handshake
	At         time.Time      // the time to judge
	Roots      *x509.CertPool // nil: those of the system
}

// Judge returns the verdict of every kind, and what a postmaster should know beside them.
func Judge(f Facts) (map[Kind]Verdict, []finding.Finding) {
	j := &judge{Facts: f}
	if j.At.IsZero() {
		j.At = time.Now()
	}
	verdicts := map[Kind]Verdict{Opportunistic: j.opportunistic(), PKIX: j.pkix(), DANE: j.dane()}
	verdicts[MTASTS] = j.sts(verdicts[DANE])
	verdicts[RequireTLS] = j.requireTLS(verdicts[PKIX], verdicts[DANE])
	j.bareGreeting(verdicts)
	return verdicts, j.findings
}

// judge collects findings while the kinds are judged.
type judge struct {
	Facts
	findings []finding.Finding
	paths    map[string]check // what the trusted roots say about a chain, by its certificates
}

// The result types of RFC 8460 section 4.3 that verdicts have, beside those of [mtasts.Found].
const (
	typeNoTLS    = "starttls-not-supported"
	typeName     = "certificate-host-mismatch"
	typeExpired  = "certificate-expired"
	typeTrust    = "certificate-not-trusted"
	typeOther    = "validation-failure"
	typeUnusable = "tlsa-invalid"
	typeDNS      = "dnssec-invalid"
)

func pass(action Action, format string, a ...any) Verdict {
	return Verdict{Result: Pass, Action: action, Reason: fmt.Sprintf(format, a...)}
}

func fail(action Action, kind string, format string, a ...any) Verdict {
	return Verdict{Result: Fail, Action: action, Type: kind, Reason: fmt.Sprintf(format, a...)}
}

// notApplicable is the verdict of a kind that asks for nothing here.
func notApplicable(action Action, format string, a ...any) Verdict {
	return Verdict{Result: NotApplicable, Action: action, Reason: fmt.Sprintf(format, a...)}
}

// notJudged is the verdict if mxcert cannot know.
func notJudged(format string, a ...any) Verdict {
	return Verdict{Result: NotApplicable, Reason: fmt.Sprintf(format, a...), NotJudged: true}
}

// add adds a finding once.
func (j *judge) add(f finding.Finding) {
	if !slices.Contains(j.findings, f) {
		j.findings = append(j.findings, f)
	}
}

// agreement says what makes all senders of a kind decide alike.
func agreement(kind Kind) string {
	switch kind {
	case Opportunistic:
		return "offer TLS 1.2 and TLS 1.3; then all senders encrypt"
	case PKIX:
		return "serve a certificate of a public CA whose subject alternative names have the MX name, whatever SNI a sender sends"
	case DANE:
		return "sign the zone of the MX records too, and publish a 3 1 1 record of each key that the server uses, and no others"
	case MTASTS:
		return "let the policy list the MX names, and let each certificate have its MX name"
	}
	return "publish TLSA records, or an MTA-STS policy in mode enforce"
}

// differ says that real senders decide otherwise than the verdict of the kind; of no kind it says nothing.
func (j *judge) differ(kind Kind, format string, a ...any) {
	j.differUntil(agreement(kind), kind, format, a...)
}

// differUntil is like differ, for what the usual advice of the kind does not change.
func (j *judge) differUntil(hint string, kind Kind, format string, a ...any) {
	if kind != "" {
		j.add(finding.New("senders-differ", finding.Warning, format, a...).About(string(kind)).Next(hint))
	}
}

// What makes senders decide alike, whatever they ask for.
const (
	newTLS      = "allow TLS 1.2 and TLS 1.3"
	forwardOnly = "allow ECDHE cipher suites"
	defaultCert = "make the certificate with the MX name the default, so that TLS works without a name in SNI"
	noClearText = "update the server, or what stands before it"
	rightUsage  = "serve a certificate for TLS servers (serverAuth), with issuers that may issue one"
	oneIssuer   = "deploy the chain as the CA delivered it, with one certificate of each issuer"
	fixDANE     = "fix what the verdict dane says"
)

package dnsprovider

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// explain turns a refused or lost update into words and a next step.
func (s *rfc2136) explain(op, what, server string, update, answer *dns.Msg, err error) *Error {
	e := &Error{Provider: "rfc2136", Op: op, What: what, ErrKind: "dns-update"}
	at := " at " + server
	if answer == nil {
		e.ErrKind, e.temporary = "dns-unreachable", true
		e.Reason = noAnswer(err) + at
		e.NextStep = fmt.Sprintf("is the name server running and does it take updates from this host? (DNSUPDATE_NAMESERVER is %s)", server)
		return e
	}
	if s.explainTSIG(e, answer, err, at) {
		return e
	}
	zone := strings.TrimSuffix(update.Question[0].Name, ".")
	switch answer.Rcode {
	case dns.RcodeRefused:
		e.Reason = "REFUSED" + at
		e.NextStep = fmt.Sprintf("the server's policy does not let key %s change these names: for BIND, in the zone's statement, update-policy { grant %s name %s txt; };",
			s.keyName, s.keyName, update.Ns[0].Header().Name)
	case dns.RcodeNotAuth, dns.RcodeNotZone:
		e.Reason = dns.RcodeToString[answer.Rcode] + at + ": the server is not the primary of zone " + zone
		e.NextStep = "set DNSUPDATE_NAMESERVER to the primary server of the zone"
	case dns.RcodeServerFailure:
		e.temporary = true
		e.Reason = "SERVFAIL" + at
		e.NextStep = "look at the name server's log: its zone file or journal may not be writable"
	case dns.RcodeNotImplemented, dns.RcodeFormatError:
		e.Reason = dns.RcodeToString[answer.Rcode] + at + ": the server does not take dynamic updates"
		e.NextStep = "use another provider for this zone (`mxcert providers`), or set DNSUPDATE_NAMESERVER to a server that takes updates"
	case dns.RcodeSuccess:
		e.Reason = fmt.Sprintf("the answer%s cannot be trusted: %v", at, err)
		e.NextStep = "check the TSIG key on both sides"
	default:
		e.Reason = dns.RcodeToString[answer.Rcode] + at
		e.NextStep = "look at the name server's log"
	}
	return e
}

// explainTSIG reads the error field of the TSIG record (RFC 8945 section 5.2).
func (s *rfc2136) explainTSIG(e *Error, answer *dns.Msg, err error, at string) bool {
	tsig := answer.IsTsig()
	code := uint16(0)
	if tsig != nil {
		code = tsig.Error
	}
	switch {
	case code == dns.RcodeBadSig, code == 0 && errors.Is(err, dns.ErrSig):
		e.Reason = fmt.Sprintf("BADSIG%s: the secret of TSIG key %s is not the one the server has", at, s.keyName)
		e.NextStep = "copy the secret of the key from the name server to DNSUPDATE_TSIG_SECRET"
	case code == dns.RcodeBadKey:
		e.Reason = fmt.Sprintf("BADKEY%s: the server does not know a TSIG key %s with algorithm %s", at, s.keyName, strings.TrimSuffix(s.algorithm, "."))
		e.NextStep = "compare DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_ALGORITHM with the key statement of the name server"
	case code == dns.RcodeBadTime, errors.Is(err, dns.ErrTime):
		e.Reason = "BADTIME" + at + clockDifference(tsig)
		e.NextStep = "set the clock of this host right (timedatectl), or the name server's"
	default:
		return false
	}
	e.ErrKind = "tsig"
	return true
}

// clockDifference is said in words. With BADTIME the server repeats the time of the request and puts its own into the
// other data (RFC 8945 section 5.2.3).
func clockDifference(tsig *dns.TSIG) string {
	const differ = ": the clocks of this host and the server differ by more than 5 minutes"
	if tsig == nil {
		return differ
	}
	seconds := int64(tsig.TimeSigned)
	if tsig.Error == dns.RcodeBadTime {
		var err error
		if seconds, err = strconv.ParseInt(tsig.OtherData, 16, 64); err != nil {
			return differ
		}
	}
	return fmt.Sprintf("%s (about %s)", differ, time.Since(time.Unix(seconds, 0)).Abs().Round(time.Second))
}

func noAnswer(err error) string {
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return "no answer (timeout)"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return fmt.Sprint(err)
}

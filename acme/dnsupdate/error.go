package dnsupdate

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Error says why an update was not carried out, or why a client cannot be made.
type Error struct {
	Subject string // "zone example.org", or the variable at fault
	Reason  string
	Rcode   int // the server's response code (RFC 2136 section 2.2); -1 without an answer
	// Refused says that the server has answered, with a valid signature, that it did not change anything.
	Refused   bool
	kind      string
	hint      string
	temporary bool
}

// Error says what the failure is about, and why it happened.
func (e *Error) Error() string { return fmt.Sprintf("dynamic update: %s: %s", e.Subject, e.Reason) }

// Kind is dns-config (a variable is wrong), dns-unreachable (no answer), tsig (the server and this host do not agree about
// key or time), dns-condition (a condition of the update does not hold) or dns-update.
func (e *Error) Kind() string { return e.kind }

// Stage is dns.
func (e *Error) Stage() string { return "dns" }

// Hint says what to do.
func (e *Error) Hint() string { return e.hint }

// Temporary reports whether the same update may succeed later.
func (e *Error) Temporary() bool { return e.temporary }

func settingError(variable, reason, hint string) *Error {
	return &Error{Subject: variable, Reason: reason, Rcode: -1, kind: "dns-config", hint: hint}
}

// explain turns a refused or lost update into words and a next step.
func (c Client) explain(update, answer *dns.Msg, err error) *Error {
	zone := strings.TrimSuffix(update.Question[0].Name, ".")
	e := &Error{Subject: "zone " + zone, Rcode: -1, kind: "dns-update"}
	at := " at " + c.Server
	if answer == nil {
		e.kind, e.temporary = "dns-unreachable", true
		e.Reason = noAnswer(err) + at
		e.hint = fmt.Sprintf("check that the name server is running and takes updates from this host (DNSUPDATE_NAMESERVER is %s)", c.Server)
		return e
	}
	e.Rcode = answer.Rcode
	e.Refused = err == nil && answer.IsTsig() != nil && answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeServerFailure
	if c.explainTSIG(e, answer, err, at) {
		return e
	}
	code, known := dns.RcodeToString[answer.Rcode]
	if !known {
		code = fmt.Sprintf("response code %d", answer.Rcode)
	}
	e.Reason, e.hint = code+at, "look at the name server's log"
	switch answer.Rcode {
	case dns.RcodeRefused:
		e.hint = fmt.Sprintf("the server's policy does not let key %s change these records: for BIND, in the zone's statement, update-policy { grant %s name %s; };",
			c.keyName, c.keyName, firstOf(update))
	case dns.RcodeNotAuth, dns.RcodeNotZone:
		if answer.IsTsig() == nil { // PowerDNS refuses a signature so, and not as RFC 8945 section 5.2 has it
			e.kind, e.Reason = "tsig", fmt.Sprintf("%s, not signed: the server does not accept TSIG key %s with this secret and algorithm, or it is not the primary of zone %s", e.Reason, c.keyName, zone)
			e.hint = "compare DNSUPDATE_TSIG_KEY, DNSUPDATE_TSIG_SECRET and DNSUPDATE_TSIG_ALGORITHM with what the server has; for PowerDNS: pdnsutil list-tsig-keys"
			break
		}
		e.Reason += ": the server is not the primary of zone " + zone
		e.hint = "set DNSUPDATE_NAMESERVER to the primary server of the zone"
	case dns.RcodeServerFailure:
		e.temporary = true
		e.hint = "look at the name server's log: its zone file or journal may not be writable"
	case dns.RcodeNotImplemented, dns.RcodeFormatError:
		e.Reason += ": the server does not take dynamic updates"
		e.hint = "set DNSUPDATE_NAMESERVER to a server that takes updates"
	case dns.RcodeNameError, dns.RcodeYXDomain, dns.RcodeNXRrset, dns.RcodeYXRrset:
		if len(update.Answer) > 0 {
			e.kind, e.Reason = "dns-condition", e.Reason+": the zone is not as expected, and was not changed"
			e.hint = "look at the records in the zone: another program may have changed them"
		}
	case dns.RcodeSuccess:
		e.Reason = fmt.Sprintf("the answer%s cannot be trusted: %v", at, err)
		e.hint = "check the TSIG key on both sides"
	}
	return e
}

// firstOf returns the first record of an update as BIND's update-policy names it: NAME TYPE.
func firstOf(update *dns.Msg) string {
	if len(update.Ns) == 0 {
		return "NAME TYPE"
	}
	h := update.Ns[0].Header()
	return h.Name + " " + strings.ToLower(dns.TypeToString[h.Rrtype])
}

// explainTSIG reads the error field of the TSIG record (RFC 8945 section 5.2).
func (c Client) explainTSIG(e *Error, answer *dns.Msg, err error, at string) bool {
	tsig := answer.IsTsig()
	code := uint16(0)
	if tsig != nil {
		code = tsig.Error
	}
	switch {
	case code == dns.RcodeBadSig, code == 0 && errors.Is(err, dns.ErrSig):
		e.Reason = fmt.Sprintf("BADSIG%s: the secret of TSIG key %s is not the one the server has", at, c.keyName)
		e.hint = "copy the secret of the key from the name server to DNSUPDATE_TSIG_SECRET"
	case code == dns.RcodeBadKey:
		e.Reason = fmt.Sprintf("BADKEY%s: the server does not know a TSIG key %s with algorithm %s", at, c.keyName, strings.TrimSuffix(c.algorithm, "."))
		e.hint = "compare DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_ALGORITHM with the key statement of the name server"
	case code == dns.RcodeBadTime, errors.Is(err, dns.ErrTime):
		e.Reason = "BADTIME" + at + clockDifference(tsig)
		e.hint = "correct the clock of this host (timedatectl), or the name server's"
	default:
		return false
	}
	e.kind = "tsig"
	return true
}

// clockDifference says by how much the clocks differ. With BADTIME the server repeats the time of the request and puts its
// own into the other data (RFC 8945 section 5.2.3).
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

// noAnswer returns a network error in plain words.
func noAnswer(err error) string {
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return "no answer (timeout)"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return fmt.Sprint(err)
}

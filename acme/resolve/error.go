package resolve

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"mxcert/acme/finding"
)

// The kinds of an [Error]. The zero value is unusable.
const (
	unusable  = ""                // an answer that does not help
	unreached = "dns-unreachable" // no answer, or SERVFAIL
	bogus     = "dnssec"          // a validating resolver refuses the data
	behind    = "propagation"     // a server does not serve the records in time
)

// Error is a question without a usable answer, or without one in time.
type Error struct {
	Name, Type string // the question
	Zone       string // the zone concerned, fully qualified; "" if it is not known
	Server     string // the server that was asked last; "" if there were many
	Reason     string
	kind       string

	// About propagation (behind):
	require    Require // what was waited for
	stale      bool    // one of the servers is named only by the parent zone
	partial    bool    // the servers that are behind serve some of the values of a name
	cutOff     string  // the family of addresses of which none answers
	onlyCutOff bool    // all other servers serve the records
}

// Error says which question failed, at which server, and why.
func (e *Error) Error() string {
	switch e.kind {
	case behind:
		return fmt.Sprintf("the TXT records in %s were not visible everywhere %s", PlainName(e.Zone), e.Reason)
	case bogus:
		text := fmt.Sprintf("DNSSEC: %s %s is bogus for the resolver %s: %s", PlainName(e.Name), e.Type, e.Server, e.Reason)
		if e.Zone != "" {
			text += "; zone " + PlainName(e.Zone)
		}
		return text
	}
	return fmt.Sprintf("DNS: %s %s at %s: %s", strings.TrimSuffix(e.Name, "."), e.Type, e.Server, e.Reason)
}

// Kind is dns-unreachable (no server answered), dnssec (a validating resolver refuses the data, RFC 4035 section 5.5),
// propagation (servers did not serve the records in time) or dns.
func (e *Error) Kind() string {
	if e.kind == unusable {
		return "dns"
	}
	return e.kind
}

// Stage is propagation or dns.
func (e *Error) Stage() string {
	if e.kind == behind {
		return behind
	}
	return "dns"
}

// Temporary reports whether trying again later may help: a server may answer, a secondary may catch up.
func (e *Error) Temporary() bool { return e.kind == unreached || e.kind == behind }

// Above reports whether the question was about a name above a zone.
func (e *Error) Above(zone string) bool {
	name, zone := dns.CanonicalName(e.Name), dns.CanonicalName(zone)
	return name != zone && dns.IsSubDomain(name, zone)
}

// Hint says what to do.
func (e *Error) Hint() string {
	dig := fmt.Sprintf("dig %s %s %s", digAt(e.Server), finding.Word(e.Name), e.Type)
	switch e.kind {
	case unreached:
		return fmt.Sprintf("check that the name server %s is running and can be reached from this host (%s)", e.Server, dig)
	case bogus:
		return fmt.Sprintf("fix the zone's signatures or its DS record at the parent; delv %s%s %s shows what is wrong", delvAt(e.Server), finding.Word(PlainName(e.Name)), e.Type)
	case behind:
		return e.hintBehind()
	}
	return "look at the answer: " + dig
}

// hintBehind says what to do about servers that are behind.
func (e *Error) hintBehind() string {
	switch {
	case e.partial:
		return "the DNS provider, or its script, replaces the records of the name: it has to add each value and leave the others, " +
			"because a name and its wildcard need one value each"
	case e.onlyCutOff && e.require == All:
		return CutOffHint(e.cutOff, e.require)
	}
	hint := "see why these servers are behind (NOTIFY, zone transfer, firewall on port 53), or raise dns.propagation.timeout"
	if e.require == Quorum {
		hint += "; with dns.propagation.require: none mxcert does not look, and the CA may find the old records"
	} else {
		hint += ", or set dns.propagation.require: quorum"
	}
	if e.stale {
		hint = "have the delegation of " + PlainName(e.Zone) + " corrected where the domain is registered, because a CA may ask the servers that it names; otherwise " + hint
	}
	return hint
}

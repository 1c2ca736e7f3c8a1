package dane

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/resolve"
)

// Fault says why a look does not count as complete: a server that counts is silent, lame, bogus or unsigned in a signed zone, not all servers
// are known, or no validating resolver vouches for the zone although one has answered; "" if the look is complete. An incomplete look restarts
// every run.
//
// A look at a zone that a validating resolver knows to be unsigned is complete: senders do not use its records.
func (v View) Fault() string {
	switch {
	case v.Err != nil:
		return v.Err.Error()
	case v.Recursive.Err != nil:
		return v.Recursive.Err.Error()
	case len(v.Steps) == 0:
		return "nobody has looked"
	}
	var faults []string
	for i := range v.Steps {
		faults = append(faults, v.Steps[i].faults()...)
	}
	if len(faults) == 0 {
		return v.unvouched()
	}
	if rest := len(faults) - mostFaults; rest > 0 {
		faults = append(faults[:mostFaults], fmt.Sprintf("and %d more", rest))
	}
	return strings.Join(faults, "; ")
}

// mostFaults limits the faults that are named.
const mostFaults = 4

// faults says what is wrong at one name.
func (s *Step) faults() (faults []string) {
	zone, keys := resolve.PlainName(s.Served.Zone), s.Served.Keys
	switch {
	case keys.Err != nil && keys.State == resolve.Bogus:
		faults = append(faults, keys.Err.Error())
	case keys.Err != nil:
		faults = append(faults, fmt.Sprintf("the keys of the zone %s are not known: %s", zone, keys.Err))
	}
	if d := s.Served.Delegation; d.NotAsked != nil && !d.Private && zone != "." {
		faults = append(faults, fmt.Sprintf("not all servers of the zone %s are known, because the zone above does not say which it names: %s", zone, d.NotAsked))
	}
	for _, host := range slices.Sorted(maps.Keys(s.Served.Unknown)) {
		faults = append(faults, fmt.Sprintf("the addresses of the name server %s could not be looked up: %s", host, s.Served.Unknown[host]))
	}
	counts := 0
	for i, a := range s.Served.Answers {
		if s.Ignored[i] {
			continue
		}
		counts++
		if fault := s.fault(i); fault != "" {
			faults = append(faults, fmt.Sprintf("%s: %s", a.Server, fault))
		}
	}
	if counts == 0 {
		faults = append(faults, fmt.Sprintf("no server of the zone %s counts: dane.ignore_servers names all of them", zone))
	}
	return faults
}

// fault says what is wrong with one answer; "" if nothing is.
func (s *Step) fault(i int) string {
	a := s.Served.Answers[i]
	switch {
	case a.Fault != "":
		return a.Fault
	case s.Served.Keys.State != resolve.Secure || a.Signature == resolve.Signed:
		return ""
	case a.Signature == resolve.Unsigned:
		return "it answers without signatures, although the zone is signed"
	case a.Signature == resolve.Expired:
		return "its signatures expired at " + a.Until.UTC().Format("2006-01-02 15:04:05 UTC")
	case a.Signature == resolve.NotYetValid:
		return "its signatures are not valid before " + a.Since.UTC().Format("2006-01-02 15:04:05 UTC")
	case a.Signature == resolve.WrongKey:
		return "its signatures were made with a key that the zone does not have"
	}
	return "its signatures do not fit its answer"
}

// unvouched says that answers contradict each other about whether the zones are signed; "" if they do not.
func (v View) unvouched() string {
	all := true
	for _, step := range v.Steps {
		all = all && step.Served.Keys.State == resolve.Secure
	}
	switch {
	case v.Recursive.State == resolve.Secure && !all:
		return fmt.Sprintf("%s vouches for the records, and not for the keys of their zone", v.Recursive.Validator)
	case all && v.Recursive.State == resolve.Insecure && v.Recursive.Validator != "" && len(v.Recursive.Records) > 0:
		return fmt.Sprintf("%s vouches for the keys of the zone, and not for the records", v.Recursive.Validator)
	}
	return ""
}

// Signed reports whether senders can use the records: a validating resolver vouches for them.
func (v View) Signed() bool { return v.Err == nil && v.Recursive.State == resolve.Secure }

// Unvalidated reports whether nothing validates on this host, so that nobody knows. Records that are seen then count as if they were secure.
func (v View) Unvalidated() bool {
	return v.Recursive.State == resolve.Insecure && v.Recursive.Validator == ""
}

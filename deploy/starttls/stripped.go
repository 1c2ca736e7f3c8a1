package starttls

import "strings"

// notOffered returns the error about a server that does not offer STARTTLS, and says if it looks like the work of a device on the way.
func (s *session) notOffered() *Error {
	e := s.fail(StepEHLO, KindSTARTTLSNotSupported, "the server does not offer STARTTLS")
	for _, line := range s.result.Plain {
		if crossedOut(line) {
			e.Stripped = true
			e.reason = "a device between here and the server has overwritten STARTTLS in the answer to EHLO with " + quoted(line)
		}
	}
	if !e.Stripped && masked(s.result.Greeting) {
		e.Stripped = true
		e.reason = "the server does not offer STARTTLS, and a device between here and the server has overwritten its greeting with " + quoted(s.result.Greeting)
	}
	return e
}

// crossedOut recognizes what inspecting firewalls write over an extension that they do not know, letter for letter: Cisco's inspect esmtp
// makes XXXXXXXA of STARTTLS, and others fill it with X or with asterisks.
func crossedOut(extension string) bool {
	keyword, _, _ := strings.Cut(extension, " ")
	if len(keyword) != len("STARTTLS") {
		return false
	}
	return strings.Trim(keyword[:7], "X") == "" || strings.Trim(keyword[:7], "*") == ""
}

// masked recognizes the greeting of Cisco's fixup protocol smtp: asterisks for all but a few letters.
func masked(greeting string) bool {
	stars := strings.Count(greeting, "*")
	return stars >= 8 && 2*stars > len(greeting)
}

package resolve

import "strings"

// Silent reports whether no resolver answered the question at all: none is there, or the network lets no question through. SERVFAIL and
// REFUSED are answers.
func (e *Error) Silent() bool {
	return e.kind == unreached && !strings.HasPrefix(e.Reason, "it answered ")
}

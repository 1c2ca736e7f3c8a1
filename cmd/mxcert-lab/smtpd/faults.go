package smtpd

import (
	"time"
)

// Step is a point of a session.
type Step string

// The steps of a session, in order.
const (
	Greeting  Step = "greeting"
	EHLO      Step = "EHLO"
	STARTTLS  Step = "STARTTLS"
	Handshake Step = "handshake"
	EHLOInTLS Step = "EHLO in TLS"
	QUIT      Step = "QUIT"
)

// Faults are the ways in which a server misbehaves. The zero value is a good server.
type Faults struct {
	GreetingDelay time.Duration
	NoStartTLS    bool // STARTTLS is not offered, and refused with 502
	OfferAgain    bool // STARTTLS is offered in TLS too (RFC 3207 section 4.2 forbids it)

	// Inject is plain text that follows the 220 of STARTTLS in the same segment.
	Inject string

	// Replies are sent as they are, CRLF included, instead of the server's own reply at a step (not Handshake). Leave the 220
	// of STARTTLS to the server: after another reply it continues in plain text.
	Replies map[Step]string

	DropAt Step // the connection is closed instead of the step's reply
	HangAt Step // the server sends nothing from this step on
}

// SetFaults changes how the server misbehaves from the next session on.
func (s *Server) SetFaults(f Faults) { s.faults.Store(&f) }

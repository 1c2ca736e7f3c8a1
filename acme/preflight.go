package acme

import (
	"context"
	"strings"

	"mxcert/acme/resolve"
)

// Severity is how much a [Finding] matters.
type Severity string

// An error makes the order certain to fail; a warning may, or is worth knowing; ok is what was looked at and is well.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityOK      Severity = "ok"
)

// Finding is one thing that [Client.Preflight] looked at.
type Finding struct {
	ID       string // what was looked at: ca, profile, caa, dnssec, challenge, delegation
	Severity Severity
	Name     string // the DNS name or zone it is about; "" for the whole order
	Message  string
	Hint     string // what to do; "" where all is well
}

// PreflightRequest is what an order would ask for.
type PreflightRequest struct {
	Names    []string          // of the certificate, lower-case A-labels, wildcards allowed
	Profile  string            // "" leaves the choice to the CA
	Resolver *resolve.Resolver // the one that the order would use
	Require  resolve.Require   // with None, the authoritative servers are not asked
}

// Preflight tests whether an order of these names could succeed, and changes nothing anywhere: no account is registered,
// no order placed, no record made. It ends soon after ctx does, and says then what was not looked at. Findings come in
// the order of the names; those about the whole order first.
func (c *Client) Preflight(ctx context.Context, q PreflightRequest) []Finding {
	return nil
}

// Preflight is [Client.Preflight] for all CAs: DNS is asked once, and what one CA refuses is a warning while another
// would not.
func (a *Authorities) Preflight(ctx context.Context, q PreflightRequest) []Finding {
	return nil
}

// Blocked gives the error of findings that make an order certain to fail, nil where there is none: an *Error of the
// stage "preflight" that names all of them and has the hint of the first.
func Blocked(findings []Finding) error {
	var first *Error
	var messages []string
	for _, f := range findings {
		if f.Severity != SeverityError {
			continue
		}
		if first == nil {
			first = &Error{Stage: "preflight", ErrKind: f.ID, NextStep: f.Hint}
		}
		messages = append(messages, f.Message)
	}
	if first == nil {
		return nil
	}
	first.Message = strings.Join(messages, "; ")
	return first
}

package session

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
	"mxcert/acme/finding"
	"mxcert/acme/transport"
)

const (
	// prefix of the error types of RFC 8555 section 6.7.
	prefix = "urn:ietf:params:acme:error:"
	// mostWord limits a word of the CA, in bytes.
	mostWord = 60
)

// Explain is [Session.Explain] for an operation that signs nothing.
func Explain(o *transport.Operation, stage string, err error) error {
	if _, done := errors.AsType[*Error](err); done || err == nil {
		return err
	}
	if ctxErr := o.Context().Err(); ctxErr != nil {
		return ctxErr
	}
	directory := o.Settings().Directory
	ca := authority.Name(directory)
	if nonce := o.NonceError(); nonce != nil && strings.Contains(err.Error(), "nonce") {
		err = nonce
	}
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok {
		return explainProblem(stage, ca, problem, o.RetryAfter(problem.URL))
	}
	return explainNetwork(stage, ca, directory, err)
}

// GivenUp explains why the CA has given up an order, by the problem in the order itself. The order can no longer succeed, and
// the CA counts it.
func (s *Session) GivenUp(problem *legoacme.ProblemDetails) *Error {
	e := explainProblem("order", authority.Name(s.Settings().Directory), problem, 0)
	e.Charged, e.Passing = true, false
	return e
}

// ProblemIs reports whether an error is the CA's problem document of one of these types (RFC 8555 section 6.7), without their
// common prefix.
func ProblemIs(err error, types ...string) bool {
	problem, ok := errors.AsType[*legoacme.ProblemDetails](err)
	return ok && slices.Contains(types, strings.TrimPrefix(problem.Type, prefix))
}

// Said returns the CA's own text in an error, safe for messages.
func Said(err error) string {
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok {
		return quote(detail(problem))
	}
	return quote(err.Error())
}

// Unanswered reports whether an error means that the CA did not answer.
func Unanswered(err error) bool {
	_, ok := errors.AsType[*url.Error](err) // http.Client returns no other type, even for our own refusals
	return ok && !errors.Is(err, transport.ErrNotACME)
}

// rateLimited explains a limit of the CA. If the CA names no time but a page, waiting may never help: Let's Encrypt pauses an account
// whose orders go on failing, until somebody opens that page.
func rateLimited(stage, ca string, problem *legoacme.ProblemDetails, wait time.Duration) *Error {
	e := &Error{At: stage, ErrKind: "rate-limited", Passing: true, Charged: true, RetryAfter: wait,
		Message: fmt.Sprintf("%s refuses for now (rate limit): %s", ca, quote(detail(problem)))}
	page := pageOf(problem)
	switch {
	case wait > 0 && page != "":
		e.NextStep = fmt.Sprintf("the CA asks to try again in %s, and names a page: if waiting does not help, open %s. mxcert does not touch the certificate in service", wait, page)
	case wait > 0:
		e.NextStep = fmt.Sprintf("the CA asks to try again in %s; mxcert does not touch the certificate in service", wait)
	case page != "":
		e.NextStep = "open " + page + " and do what the CA asks for there; until then it may go on refusing. mxcert does not touch the certificate in service"
	default:
		e.NextStep = "wait; mxcert does not touch the certificate in service"
	}
	return e
}

func explainProblem(stage, ca string, problem *legoacme.ProblemDetails, wait time.Duration) *Error {
	kind := strings.TrimPrefix(problem.Type, prefix)
	said := quote(detail(problem))
	if kind != "" && problem.Type != transport.NotProblem {
		said += " (" + finding.Quote(strings.TrimPrefix(kind, "urn:mxcert:"), mostWord) + ")"
	}
	e := &Error{At: stage, ErrKind: "ca-refused", Cause: problem, RetryAfter: wait,
		Message: fmt.Sprintf("%s answered %d to the %s: %s", ca, problem.HTTPStatus, stage, said)}
	if problem.Method == "" && problem.URL == "" { // it is not an answer, but in the order
		e.Message = fmt.Sprintf("%s gave up the %s: %s", ca, stage, said)
	}
	switch {
	case kind == "rateLimited" || problem.HTTPStatus == 429:
		return rateLimited(stage, ca, problem, wait)
	case problem.HTTPStatus >= 500 || problem.Type == transport.BadNonce || kind == "serverInternal":
		e.ErrKind, e.Passing = "ca-error", true
		e.NextStep = "the CA has a problem of its own; mxcert tries again later and does not touch the certificate in service"
	case problem.Type == transport.NotProblem:
		e.ErrKind, e.Passing = "ca-error", true
		e.NextStep = "this is not the answer of an ACME server: check acme.directory, and look for a proxy in between"
	default:
		e.NextStep = nextStep(kind)
		switch page := pageOf(problem); {
		case page == "":
		case kind == "userActionRequired":
			e.NextStep = "open " + page + " and accept the CA's terms there"
		default:
			e.NextStep += "; the CA names a page: " + page
		}
	}
	return e
}

// pageOf returns the page on which a person can do something about a problem: the instance of a userActionRequired (RFC 8555
// section 7.3.3), else a URL in the text; "" if there is none.
func pageOf(problem *legoacme.ProblemDetails) string {
	return cmp.Or(finding.Link(problem.Instance), finding.Link(detail(problem)))
}

// nextStep returns the hint for the error types of RFC 8555 section 6.7 about which an operator can do something.
func nextStep(kind string) string {
	switch kind {
	case "accountDoesNotExist":
		return "the CA no longer knows this account"
	case "externalAccountRequired":
		return "this CA wants External Account Binding: set acme.eab.kid and acme.eab.hmac_key"
	case "userActionRequired":
		return "the CA has changed its terms: read and accept them as the message says"
	case "invalidContact", "unsupportedContact":
		return "fix acme.email"
	case "rejectedIdentifier":
		return "the CA does not issue for one of the names: compare `domains` with what you own"
	case "invalidProfile":
		return "fix acme.profile: the CA's directory lists the profiles it knows"
	case "caa":
		return "a CAA record forbids this CA: look at the CAA records of the name and its parents"
	case "unauthorized":
		return "the CA does not accept this account for the request"
	case "badRevocationReason":
		return "choose another --reason: the message of the CA says which ones it accepts"
	case "badCSR", "badPublicKey":
		return "the CA refuses the key: choose another type in `keys`"
	}
	return "see the message of the CA"
}

func explainNetwork(stage, ca, directory string, err error) *Error {
	e := &Error{At: stage, ErrKind: "ca-unreachable", Passing: true, Cause: err,
		NextStep: fmt.Sprintf("try: curl -v %s; mxcert does not touch the certificate in service", directory)}
	reason := err
	if u, ok := errors.AsType[*url.Error](err); ok {
		reason = u.Err
	}
	e.Message = fmt.Sprintf("the CA %s cannot be reached: %s", ca, quote(reason.Error()))
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, unknownRoot := errors.AsType[x509.UnknownAuthorityError](err)
	_, wrongHost := errors.AsType[x509.HostnameError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case isInvalid && invalid.Reason == x509.Expired:
		e.ErrKind = "clock"
		e.Message = fmt.Sprintf("the HTTPS certificate of %s is not valid at this host's time (%s): %s", ca, time.Now().UTC().Format(time.RFC3339), quote(invalid.Error()))
		e.NextStep = "check this host's clock (timedatectl); if it is right, the CA's own certificate has expired"
	case unknownRoot:
		e.ErrKind, e.Passing = "tls", false
		e.Message = fmt.Sprintf("the HTTPS certificate of %s comes from an authority that this host does not trust", ca)
		e.NextStep = "for a private CA set acme.ca_file to its root certificate; otherwise install ca-certificates, and look for a TLS proxy in between"
	case wrongHost, notTLS:
		e.ErrKind, e.Passing = "tls", false
		e.NextStep = "check acme.directory: the server there is not an ACME server"
	case errors.Is(err, transport.ErrBudget):
		e.ErrKind, e.Message = "ca-error", fmt.Sprintf("%s: %v", ca, err)
	case !Unanswered(err):
		reason := strings.TrimPrefix(reason.Error(), transport.ErrNotACME.Error()+": ")
		e.ErrKind, e.Message = "ca-error", fmt.Sprintf("%s sent an answer that is not ACME, at the %s: %s", ca, stage, quote(reason))
		e.NextStep = "check acme.directory, and look for a proxy in between"
	}
	return e
}

// detail joins the problem's detail and those of its subproblems (RFC 8555 section 6.7.1).
func detail(problem *legoacme.ProblemDetails) string {
	text := problem.Detail
	for _, sub := range problem.SubProblems {
		text += "; " + sub.Identifier.Value + ": " + sub.Detail
	}
	return text
}

// quote makes text of the CA safe for messages. A URL in it stays whole.
func quote(text string) string { return finding.QuoteLink(text, finding.MostQuoted) }

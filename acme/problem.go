package acme

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
)

// Error is a failure between names and certificate.
type Error struct {
	Stage      string        // directory, account, order, authorization, dns, challenge, finalize, download, check, revoke
	ErrKind    string        // ca-unreachable, ca-error, ca-refused, rate-limited, account, challenge, bad-certificate, clock, tls, internal
	Message    string        // what, where, why
	NextStep   string        // what to do
	RetryAfter time.Duration // the CA asked to wait that long; 0: nothing said
	Charged    bool          // the CA counts this failure against the account or the names
	Identifier string        // the name whose proof failed; "" for other failures
	Kept       bool          // the order was finalized and stays in flight: the next run goes on with it
	temporary  bool
	cause      error
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause, where there is one.
func (e *Error) Unwrap() error { return e.cause }

// Kind is a stable word.
func (e *Error) Kind() string { return e.ErrKind }

// Hint says what to do. Where nothing better is known, the CA does odd things.
func (e *Error) Hint() string {
	return cmp.Or(e.NextStep, "the CA does not keep to RFC 8555: is acme.directory right, is a proxy in the way? Otherwise report it to the CA")
}

// Temporary is true where trying again later may help.
func (e *Error) Temporary() bool { return e.temporary }

// ChargedToCA reports whether the failure used up some of the CA's patience.
func (e *Error) ChargedToCA() bool { return e.Charged }

// Wait is how long the CA asked to wait.
func (e *Error) Wait() time.Duration { return e.RetryAfter }

// nonceTries bounds how often a refused nonce is replaced.
const nonceTries = 20

// call runs one exchange of lego's core: a refused nonce is replaced at once, and a panic in its parsers becomes an
// error.
func call[T any](o *operation, f func() (T, error)) (result T, err error) {
	defer rescue(&err)
	for range nonceTries {
		result, err = f()
		problem, ok := errors.AsType[*legoacme.ProblemDetails](err)
		if !ok || problem.Type != badNonce || o.transport.ctx.Err() != nil {
			break
		}
	}
	return result, err
}

// rescue turns a panic into an error: nothing that one CA or one provider says may end a daemon that serves others.
func rescue(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the answer cannot be understood (%s)", quote(fmt.Sprint(r)))
	}
}

// rescued is rescue around a whole order, where nothing is known of the cause.
func rescued(err *error) {
	if r := recover(); r != nil {
		*err = &Error{Stage: "order", ErrKind: "internal", temporary: true, Message: "a fault inside mxcert ended the order: " + quote(fmt.Sprint(r)),
			NextStep: "please report this; the certificate in service is not touched, and the next run tries again"}
	}
}

// explain turns an error of the core into words and a next step. An *Error stays as it is.
func (o *operation) explain(stage string, err error) error {
	if _, done := errors.AsType[*Error](err); done || err == nil {
		return err
	}
	if ctxErr := o.transport.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	ca := authority.Name(o.client.settings.Directory)
	if nonce := o.transport.nonceError(); nonce != nil && strings.Contains(err.Error(), "nonce") {
		err = nonce
	}
	if limited, ok := errors.AsType[*legoacme.RateLimitedError](err); ok {
		return rateLimited(stage, ca, limited.ProblemDetails, parseRetryAfter(limited.RetryAfter, time.Now()))
	}
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok {
		return explainProblem(stage, ca, problem, o.transport.retryAfterOf(problem.URL))
	}
	return explainNetwork(stage, ca, o.client.settings.Directory, err)
}

func rateLimited(stage, ca string, problem *legoacme.ProblemDetails, wait time.Duration) *Error {
	e := &Error{Stage: stage, ErrKind: "rate-limited", temporary: true, Charged: true, RetryAfter: wait,
		Message: fmt.Sprintf("%s refuses for now (rate limit): %s", ca, quote(problem.Detail))}
	e.NextStep = "wait; the certificate in service is not touched"
	if wait > 0 {
		e.NextStep = fmt.Sprintf("the CA says to try again in %s; the certificate in service is not touched", wait)
	}
	return e
}

func explainProblem(stage, ca string, problem *legoacme.ProblemDetails, wait time.Duration) *Error {
	kind := strings.TrimPrefix(problem.Type, "urn:ietf:params:acme:error:")
	said := quote(detail(problem))
	if kind != "" && problem.Type != notProblem {
		said += " (" + quoteWord(strings.TrimPrefix(kind, "urn:mxcert:")) + ")"
	}
	e := &Error{Stage: stage, ErrKind: "ca-refused", cause: problem, RetryAfter: wait,
		Message: fmt.Sprintf("%s answered %d to the %s: %s", ca, problem.HTTPStatus, stage, said)}
	if problem.Method == "" && problem.URL == "" { // it is no answer, but what an order says about itself
		e.Message = fmt.Sprintf("%s gave up the %s: %s", ca, stage, said)
	}
	switch {
	case kind == "rateLimited" || problem.HTTPStatus == 429:
		return rateLimited(stage, ca, problem, wait)
	case problem.HTTPStatus >= 500 || problem.Type == badNonce || kind == "serverInternal":
		e.ErrKind, e.temporary = "ca-error", true
		e.NextStep = "the CA has a problem of its own; mxcert tries again later, the certificate in service is not touched"
	case problem.Type == notProblem:
		e.ErrKind, e.temporary = "ca-error", true
		e.NextStep = "this is not the answer of an ACME server: is acme.directory right, is a proxy in the way?"
	default:
		e.NextStep = nextStep(kind)
	}
	return e
}

// nextStep knows the error types of RFC 8555 section 6.7 that an operator can do something about.
func nextStep(kind string) string {
	switch kind {
	case "accountDoesNotExist":
		return "the CA no longer knows this account"
	case "externalAccountRequired":
		return "this CA wants External Account Binding: set acme.eab.kid and acme.eab.hmac_key"
	case "userActionRequired":
		return "the CA's terms changed: read and accept them as the message says"
	case "invalidContact", "unsupportedContact":
		return "mend acme.email"
	case "rejectedIdentifier":
		return "the CA does not issue for one of the names: compare `domains` with what you own"
	case "invalidProfile":
		return "mend acme.profile: the CA's directory lists the profiles it knows"
	case "caa":
		return "a CAA record forbids this CA: look at the CAA records of the name and its parents"
	case "unauthorized":
		return "the CA does not accept this account for the request"
	case "badRevocationReason":
		return "choose another --reason: the message of the CA says which it takes"
	case "badCSR", "badPublicKey":
		return "the CA refuses the key: choose another type in `keys`"
	}
	return "see the message of the CA"
}

func explainNetwork(stage, ca, directory string, err error) *Error {
	e := &Error{Stage: stage, ErrKind: "ca-unreachable", temporary: true, cause: err,
		NextStep: fmt.Sprintf("try: curl -v %s; the certificate in service is not touched", directory)}
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
		e.NextStep = "is the clock right? (timedatectl) Otherwise the CA's own certificate has expired"
	case unknownRoot:
		e.ErrKind, e.temporary = "tls", false
		e.Message = fmt.Sprintf("the HTTPS certificate of %s comes from an authority that this host does not trust", ca)
		e.NextStep = "for a private CA set acme.ca_file to its root certificate; otherwise install ca-certificates, and look for a TLS proxy in between"
	case wrongHost, notTLS:
		e.ErrKind, e.temporary = "tls", false
		e.NextStep = "is acme.directory right? Something else answers there"
	case errors.Is(err, errBudget):
		e.ErrKind, e.Message = "ca-error", fmt.Sprintf("%s: %v", ca, err)
	case !isNetwork(err):
		reason := strings.TrimPrefix(reason.Error(), errNotACME.Error()+": ")
		e.ErrKind, e.Message = "ca-error", fmt.Sprintf("%s gave an answer that is not ACME, at the %s: %s", ca, stage, quote(reason))
		e.NextStep = "is acme.directory right, is a proxy in the way?"
	}
	return e
}

// isNetwork reports whether no answer came. Whatever http.Client returns is a *url.Error, even around our own refusals.
func isNetwork(err error) bool {
	_, ok := errors.AsType[*url.Error](err)
	return ok && !errors.Is(err, errNotACME)
}

// detail joins the problem's detail and those of its subproblems (RFC 8555 section 6.7.1).
func detail(problem *legoacme.ProblemDetails) string {
	text := problem.Detail
	for _, sub := range problem.SubProblems {
		text += "; " + sub.Identifier.Value + ": " + sub.Detail
	}
	return text
}

// quote makes foreign text harmless and short: no control characters, also not those above ASCII, and nothing that
// turns the direction of writing.
func quote(text string) string {
	const most = 300
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func quoteWord(text string) string { return fmt.Sprintf("%.60s", quote(text)) }

package acme

import (
	"errors"
	"fmt"
	"strings"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/finding"
	"mxcert/acme/session"
)

// errOver is the cause of an *Error about an authorization that ended before anything was proven. Another order may get a fresh one.
var errOver = errors.New("the authorization is over")

// whyInvalid looks for the authorizations that failed, or else for one that ended in another way. The error is about the first, and names
// all.
func (f *flow) whyInvalid() error {
	var over error
	var failed *Error
	for _, url := range f.order.Authorizations {
		authorization, err := session.Call(f.Session, func() (legoacme.Authorization, error) { return f.Core.Authorizations.Get(url) })
		if err != nil {
			return f.Explain("authorization", err)
		}
		switch authorization.Status {
		case legoacme.StatusPending, legoacme.StatusValid:
			continue
		}
		domain := strings.ToLower(authorization.Identifier.Value)
		if nameOf(domain, f.Names) == "" {
			domain = finding.Quote(domain, mostWord)
		}
		ended := f.ended(domain, authorization)
		switch {
		case ended.ErrKind != "challenge":
			over = ended
		case failed == nil:
			failed = ended
		default:
			failed.Unproven, failed.Unheard = append(failed.Unproven, ended.Unproven...), append(failed.Unheard, ended.Unheard...)
		}
	}
	if failed != nil {
		return failed
	}
	if over != nil {
		return over
	}
	if f.order.Error != nil {
		return f.GivenUp(f.order.Error)
	}
	return &Error{At: "order", ErrKind: "ca-refused", Charged: true, Message: f.ca() + " gave up the order without a reason"}
}

// challengeError says why a name could not be proven.
func (f *flow) challengeError(domain string, a legoacme.Authorization) *Error {
	e := &Error{At: "challenge", ErrKind: "challenge", Charged: true, Identifier: domain,
		Message:  fmt.Sprintf("%s does not accept the proof for %s (authorization %s)", f.ca(), domain, finding.Quote(a.Status, mostWord)),
		NextStep: fmt.Sprintf("check that all name servers of the zone serve _acme-challenge.%s, and that DNSSEC validates (delv _acme-challenge.%s TXT)", domain, domain)}
	if a.Wildcard && !strings.HasPrefix(domain, "*.") {
		e.Unproven = []string{"*." + domain}
	} else {
		e.Unproven = []string{domain}
	}
	if !verdict(a) {
		e.Unheard = e.Unproven
	}
	if why := reason(a); why != "" {
		e.Message = fmt.Sprintf("%s could not verify %s: %s", f.ca(), domain, why)
	}
	return e
}

// reason returns what the CA says about the challenge that failed; "" if it says nothing.
func reason(a legoacme.Authorization) string {
	for _, c := range a.Challenges {
		if c.Error != nil {
			return session.Said(c.Error)
		}
	}
	return ""
}

// verdict reports whether the CA has judged the proof, and did not just fail to look at it.
func verdict(a legoacme.Authorization) bool {
	for _, c := range a.Challenges {
		if c.Error != nil {
			return denies(c.Error.Type)
		}
	}
	return true
}

// ended explains an authorization that is neither pending nor valid. A proof has failed only if the CA has looked. Another client of
// the account can deactivate an authorization, it can expire or be revoked (RFC 8555 section 7.1.6), and a CA may put one that failed in
// an earlier order into a new one.
func (f *flow) ended(domain string, a legoacme.Authorization) *Error {
	switch a.Status {
	case legoacme.StatusInvalid:
		if f.proving || f.resumed {
			return f.challengeError(domain, a)
		}
	case legoacme.StatusDeactivated, legoacme.StatusExpired, legoacme.StatusRevoked:
	default:
		return &Error{At: "authorization", ErrKind: "ca-error", Passing: true,
			Message: fmt.Sprintf("%s says that the authorization for %s is %q, which is not a status of RFC 8555", f.ca(), domain, finding.Quote(a.Status, mostWord))}
	}
	e := &Error{At: "authorization", ErrKind: "ca-refused", Passing: true, Cause: errOver,
		Message:  fmt.Sprintf("the authorization of %s for %s is %s, so nothing can be proven with this order", f.ca(), domain, a.Status),
		NextStep: "the next attempt places another order; look whether another client uses this account and deactivates its authorizations"}
	if why := reason(a); why != "" {
		e.Message += ": " + why
	}
	return e
}

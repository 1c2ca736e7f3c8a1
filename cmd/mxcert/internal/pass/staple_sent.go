package pass

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/ocsp"
	"mxcert/deploy/served"
)

// sends reports whether the server at an endpoint is to send OCSP responses: only Exim sends those that mxcert writes.
func sends(want wanted.Certificate, endpoint string) bool {
	if !want.Stapled() {
		return false
	}
	usual := served.UsualServers(endpoint)
	return slices.Contains(usual, "exim") || usual == nil && !want.Has("postfix", "dovecot")
}

// Sent judges the OCSP response that an endpoint has sent along with the wanted certificate. It returns "" if the endpoint is not to send one: it
// is no Exim with `ocsp`, or it shows another certificate. The error has the kind of the problem, and a hint.
func Sent(want wanted.Certificate, r served.Result) (ocsp.Sent, error) {
	if !r.Matches || r.Shown == nil || !sends(want, r.Address) {
		return "", nil
	}
	issuer, err := ocsp.Issuer(r.Want)
	if err != nil {
		return "", nil //nolint:nilerr // the deployment reports it
	}
	sent, err := ocsp.Judge(r.Shown.Staple, r.Want.Leaf(), issuer, time.Now())
	if err != nil {
		return sent, &notSent{cause: err, endpoint: r.Address, path: want.StaplePath()}
	}
	return sent, nil
}

// sentTo judges what a handshake has shown, if there is a response that the server can send.
func sentTo(want wanted.Certificate, r served.Result) (ocsp.Sent, error) {
	if want.StapleOf(r.Want) == nil {
		return "", nil // stapleReport says why
	}
	return Sent(want, r)
}

// notSent says that a server does not send the response that mxcert has written.
type notSent struct {
	cause          error
	endpoint, path string
}

func (e *notSent) Error() string { return e.endpoint + ": " + e.cause.Error() }
func (e *notSent) Unwrap() error { return e.cause }

// Kind is that of the cause.
func (e *notSent) Kind() string { return report.KindOf(e.cause) }

// Hint says where to look.
func (e *notSent) Hint() string {
	return "does Exim's tls_ocsp_file name " + e.path + ", and may Exim read it? (exim4 -bP tls_ocsp_file; mxcert doctor)"
}

// lookAtSent warns about endpoints that show the certificate without its OCSP response. Exim may read a new response only some seconds after a
// change, so lookAtSent waits if this pass has changed the files.
func (p *pass) lookAtSent(ctx context.Context) {
	fine := func(r served.Result) bool {
		_, err := sentTo(p.want, r)
		return err == nil
	}
	if !slices.ContainsFunc(p.seen, func(r served.Result) bool { return !fine(r) }) {
		return
	}
	if p.stapledAnew {
		seen := served.Await(ctx, p.probes(), autoPatience, p.want.VerifyTimeout, func(r served.Result) bool { return r.Matches && fine(r) })
		if ctx.Err() != nil {
			return
		}
		if served.All(seen) { // otherwise the next pass finds out
			p.seen = seen
		}
	}
	for _, r := range p.seen {
		if _, err := sentTo(p.want, r); err != nil {
			p.warn(sentText(err))
		}
	}
}

func sentText(err error) string { return fmt.Sprintf("%v; %s", err, report.HintOf(err)) }

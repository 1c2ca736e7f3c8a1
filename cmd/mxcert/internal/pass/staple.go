package pass

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/ocsp"
)

const (
	// staplePatience limits the requests for one OCSP response.
	staplePatience = 25 * time.Second
	// A new certificate waits for its OCSP response until the one in place has less than a tenth of its life left, or less than nearEnd.
	nearEnd     = 72 * time.Hour
	partNearEnd = 10
)

// useStaples gets the OCSP responses that are due, and adds those that servers may send to what is wanted. A responder that gives none
// costs no pass: the responses in place stay until they are about to expire.
func (p *pass) useStaples(ctx context.Context) {
	if !p.want.Stapled() {
		return
	}
	p.staples = readStaples(p.lineage)
	asked := false
	for _, b := range p.have.Bundles {
		if b != nil && !p.options.DryRun && p.askResponder(ctx, b) {
			asked = true
		}
	}
	if asked {
		p.saveStaples()
	}
	bundles := p.have.Bundles
	if old, err := p.have.Served(); err == nil {
		bundles = slices.Concat(bundles, old) // a deployment may go back to them
	}
	keep := p.ended() && p.readsPlainly(ctx)
	p.want = p.want.WithStaples(p.staples.forServers(bundles, func(*staple) bool { return keep }))
}

// askResponder asks for the response of a certificate if it is due. It reports whether something changed that is remembered.
func (p *pass) askResponder(ctx context.Context, b *bundle.Bundle) bool {
	one, have, now := p.staples.of(b), p.staples.response(b), time.Now()
	if ocsp.Responder(b.Leaf()) == "" {
		problem := report.NewError(ocsp.NoResponder(b.Leaf().Issuer.CommonName, p.want.StaplePath()))
		changed := one.Problem == nil || one.Problem.Message != problem.Message
		one.Problem, one.NextTry = problem, time.Time{}
		return changed
	}
	lacks := have == nil || !now.Before(have.ServeUntil())
	if now.Before(one.NextTry) && !p.options.Force && (p.options.Daemon || !lacks) {
		return false
	}
	issuer, err := ocsp.Issuer(b)
	var got *ocsp.Response
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, staplePatience)
		defer cancel()
		got, err = ocsp.Fetch(ctx, b.Leaf(), issuer)
	}
	if ctx.Err() != nil {
		return false
	}
	if err == nil {
		one.Status = got.Status
		err = got.Problem(b.Serial())
	}
	if err != nil {
		one.Failures++
		one.Problem, one.NextTry = report.NewError(err), tryAgainAt(one.Failures, have, now)
		p.say("ocsp", fmt.Sprintf("%s: %v", b.KeyType(), err))
		return true
	}
	if have == nil || !got.ThisUpdate.Before(have.ThisUpdate) {
		have, one.Response = got, got.DER
	}
	one.Failures, one.Problem, one.NextTry = 0, nil, refreshAt(have, now)
	p.say("ocsp", fmt.Sprintf("%s: the CA says good, until %s", b.KeyType(), report.Minute(have.NextUpdate)))
	return true
}

// ended reports whether a response of a current certificate is too old to be served.
func (p *pass) ended() bool {
	return slices.ContainsFunc(p.have.Bundles, func(b *bundle.Bundle) bool {
		if b == nil {
			return false
		}
		r := p.staples.response(b)
		return r != nil && !time.Now().Before(r.ServeUntil())
	})
}

// readsPlainly reports whether Exim's tls_ocsp_file is a path and no condition. Then Exim holds what it has read: it goes on with an expired
// response as long as nothing changes, and refuses TLS if the file is missing when it reads its files again.
func (p *pass) readsPlainly(ctx context.Context) bool {
	if p.stapling == nil {
		setting, err := p.Helper.Stapling(ctx, p.want)
		if err != nil {
			p.say("ocsp", fmt.Sprintf("Exim cannot be asked for tls_ocsp_file: %v", err))
		}
		p.stapling = &setting
	}
	return plainPath(*p.stapling)
}

// plainPath reports whether a tls_ocsp_file is a path.
func plainPath(setting string) bool { return setting != "" && !strings.Contains(setting, "$") }

// tellNeeded says of responses that Exim cannot do without them, if the pass has found that out.
func (p *pass) tellNeeded(keys []report.Key) {
	for _, k := range keys {
		if k.OCSP != nil && p.stapling != nil {
			k.OCSP.Needed = plainPath(*p.stapling)
		}
	}
}

// mayStaple keeps the certificate in place as long as the new one has no OCSP response, because Exim refuses TLS with the response of another
// certificate, and perhaps without one. When the certificate in place ends soon, the new one goes without, unless Exim would refuse TLS then.
func (p *pass) mayStaple(ctx context.Context) error {
	plan := p.plan.Summary()
	if !p.want.Stapled() || plan.Empty() || plan.StaplesOnly() || p.have.Record.Applying {
		return nil
	}
	for i, b := range p.have.Bundles {
		slot := p.have.Record.Slot(p.want.Keys[i])
		if b == nil || p.want.StapleOf(b) != nil || slot.Served == slot.Current {
			continue
		}
		problem := p.staples.of(b).Problem
		if problem == nil {
			problem = &report.Error{Kind: ocsp.KindUnavailable, Message: "there is no OCSP response of the new certificate"}
		}
		first := slot.Served == "" || plan.OldNotAfter.IsZero() || plan.OldFault != ""
		held := &unstapled{problem: problem, certificate: b, old: plan.OldNotAfter, path: p.want.StaplePath()}
		switch ends := !first && time.Until(plan.OldNotAfter) < p.nearEnd(b); {
		case problem.Kind == ocsp.KindRevoked, problem.Kind == ocsp.KindNoResponder && !ends, !first && !ends, demandsStaple(b):
			return report.At("deploy", held)
		case p.readsPlainly(ctx):
			held.plainly = true
			return report.At("deploy", held)
		}
		p.warn(fmt.Sprintf("the new certificate is deployed without an OCSP response: %s", problem.Message))
	}
	return nil
}

// nearEnd returns how long before the end of the certificate in place a new one goes without a response.
func (p *pass) nearEnd(b *bundle.Bundle) time.Duration {
	return min(nearEnd, b.NotAfter().Sub(b.Leaf().NotBefore)/partNearEnd)
}

// unstapled says that a new certificate waits for its OCSP response.
type unstapled struct {
	problem     *report.Error
	certificate *bundle.Bundle
	old         time.Time // when the certificate in place ends; zero if there is none
	plainly     bool      // Exim needs the file
	path        string    // of the file
}

func (e *unstapled) Error() string {
	text := e.problem.Message + "; the certificate with serial " + e.certificate.Serial() + " is not deployed"
	if !e.old.IsZero() {
		text += ", and the one in place stays, valid until " + report.Minute(e.old)
	}
	return text
}

// Kind is that of the problem.
func (e *unstapled) Kind() string { return e.problem.Kind }

// Temporary reports whether waiting may help.
func (e *unstapled) Temporary() bool {
	return e.problem.Kind != ocsp.KindNoResponder && e.problem.Kind != ocsp.KindRevoked
}

// Hint says what to do.
func (e *unstapled) Hint() string {
	if e.plainly {
		return "to deploy it without a response, write in Exim's configuration " + wanted.ConditionalStaple(e.path) + ", or remove tls_ocsp_file and `ocsp`; " + e.problem.Hint
	}
	return e.problem.Hint
}

// demandsStaple reports whether a certificate demands a stapled response (TLS feature, RFC 7633).
func demandsStaple(b *bundle.Bundle) bool {
	return slices.ContainsFunc(b.Leaf().Extensions, func(e pkix.Extension) bool { return e.Id.String() == "1.3.6.1.5.5.7.1.24" })
}

// refresh puts new OCSP responses in place, or takes expired ones away. It reloads no server: Exim notices on its own.
func (p *pass) refresh(ctx context.Context) error {
	for _, change := range p.plan.Summary().Changes {
		p.say("deploy", fmt.Sprintf("%s (%s)", change.Path, change.Why))
	}
	p.stapledAnew = true
	if err := p.write(func() error { return p.plan.Apply(p.keepDisplaced) }); err != nil {
		return err
	}
	if err := p.compare(ctx, p.have.Bundles); err != nil {
		return err
	}
	p.placedStaples()
	return nil
}

// stapleTrouble returns what a person has to do about OCSP although the certificates are in service. What passes on its own is a warning, once
// it is no mere hiccup.
func (p *pass) stapleTrouble(ctx context.Context) error {
	if p.staples == nil {
		return nil
	}
	for _, b := range p.have.Bundles {
		if b == nil {
			continue
		}
		one := p.staples.of(b)
		if one.Problem != nil {
			p.readsPlainly(ctx) // for tellNeeded
		}
		switch {
		case one.Problem == nil:
		case one.Problem.Kind == ocsp.KindRevoked, one.Problem.Kind == ocsp.KindNoResponder:
			return report.At(stageOCSP, &stapleError{told: *one.Problem})
		case p.want.StapleOf(b) == nil, one.Problem.Kind == ocsp.KindUnknown, one.Failures >= loudFailures:
			p.warn(fmt.Sprintf("%s; %s", one.Problem.Message, one.Problem.Hint))
		}
	}
	if p.stapleDrift != nil {
		return report.At(stageOCSP, p.stapleDrift)
	}
	return nil
}

const (
	// stageOCSP is the stage of errors about OCSP responses of certificates in service.
	stageOCSP = "ocsp"
	// loudFailures is how many failures in a row are worth a warning.
	loudFailures = 4
)

// stapleError is what is remembered about a failure, as an error.
type stapleError struct{ told report.Error }

func (e *stapleError) Error() string { return e.told.Message }

// Kind returns the stable word.
func (e *stapleError) Kind() string { return e.told.Kind }

// Hint says what to do.
func (e *stapleError) Hint() string { return e.told.Hint }

// isStaple reports whether an error is about OCSP.
func isStaple(err error) bool { return err != nil && strings.HasPrefix(report.KindOf(err), "ocsp-") }

package acme

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"strings"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/bundle"
	"mxcert/acme/session"
)

const (
	// finalizeTries is how many times one run asks for the certificate of one order.
	finalizeTries = 6
	// firstLooks is how many looks follow the first request, before it is sent again if the order is still ready. They double each
	// time: the last request comes a minute after the first.
	firstLooks = 1
)

// collect finalizes a ready order and downloads the certificate.
func (f *flow) collect(ctx context.Context) ([]byte, error) {
	if err := f.finalize(ctx); err != nil {
		return nil, err
	}
	for f.order.Status == legoacme.StatusProcessing {
		if err := f.awaitOrder(ctx, f.order.Status); err != nil {
			return nil, err
		}
	}
	if f.order.Status != legoacme.StatusValid || f.order.Certificate == "" {
		return nil, &Error{At: "finalize", ErrKind: "ca-error", Passing: true,
			Message: fmt.Sprintf("%s sent no certificate (order is %.20q)", f.ca(), f.order.Status)}
	}
	return f.download(ctx)
}

// finalize asks for the certificate of a ready order until the CA has taken the request up (RFC 8555 section 7.4). Two kinds of CA
// need more than one request. If the front ends lag behind each other, one calls the order ready and another answers
// orderNotReady. Others accept the request, do nothing, and the order is still ready. An order that stays ready is kept for the
// next run.
func (f *flow) finalize(ctx context.Context) error {
	looks := firstLooks
	for try := 1; f.order.Status == legoacme.StatusReady || try > 1 && f.order.Status == legoacme.StatusPending; try, looks = try+1, looks*2 {
		refused := f.requestCertificate()
		switch {
		case refused != nil && !session.ProblemIs(refused, "orderNotReady"):
			return refused
		case refused == nil && f.order.Status != legoacme.StatusReady:
			return nil
		case try == finalizeTries:
			return f.stillReady(refused)
		}
		if err := f.awaitTaken(ctx, looks); err != nil {
			return err
		}
	}
	return nil
}

// stillReady explains an order that no request has moved. refused is the CA's answer to the last one; nil if it accepted it.
func (f *flow) stillReady(refused error) error {
	e := &Error{At: "finalize", ErrKind: "ca-error", Passing: true, Cause: refused,
		Message:  fmt.Sprintf("%s has accepted %d requests for the certificate, and the order is still ready", f.ca(), finalizeTries),
		NextStep: "mxcert keeps the order: the next run resumes it"}
	if refused != nil {
		e.Message = fmt.Sprintf("%s says that the order is ready, and refused %d requests for the certificate because it is not: %s", f.ca(), finalizeTries, session.Said(refused))
	}
	return e
}

// awaitTaken polls a finalized order until it is no longer ready, or pending at a front end that lags behind, at most so many times.
func (f *flow) awaitTaken(ctx context.Context, looks int) error {
	return f.await(ctx, legoacme.StatusReady, new(paceNote), []string{f.url, f.order.Finalize}, func() (done bool, err error) {
		if err := f.refresh(); err != nil {
			return false, err
		}
		looks--
		if f.order.Status == legoacme.StatusPending || f.order.Status == legoacme.StatusReady {
			return looks <= 0, nil
		}
		return true, f.standing()
	})
}

// requestCertificate sends the request that finalizes an order, once. An order that the CA calls ready again is not an error.
func (f *flow) requestCertificate() error {
	key, err := bundle.ParseKey([]byte(f.stored.Key))
	if err != nil {
		return err
	}
	// No common name: identifiers are the SANs (RFC 9525 section 2), and some profiles refuse one.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: f.Names}, key)
	if err != nil {
		return fmt.Errorf("certificate request: %w", err)
	}
	order, err := session.Call(f.Session, func() (legoacme.ExtendedOrder, error) {
		return f.Core.Orders.UpdateForCSR(f.order.Finalize, csr)
	})
	if err != nil && strings.HasPrefix(err.Error(), "invalid order") && f.refresh() == nil { // lego's own words, with or without the CA's reason
		return f.whyInvalid()
	}
	if err != nil {
		return f.Explain("finalize", err)
	}
	f.order = order.Order
	return nil
}

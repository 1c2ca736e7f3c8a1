package ocsp

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"mxcert/acme/finding"
)

const (
	// patience limits one request, with its answer.
	patience = 10 * time.Second
	// longestGET is the size of the longest URL for a request by GET, in bytes (RFC 5019 section 5, RFC 9654 section 3).
	longestGET    = 255
	mostHeaders   = 16 << 10
	mostRedirects = 3
)

// Fetch asks the responder that the leaf names, and checks the answer, which may say anything about the status. It asks by GET, because the
// answer then may come from a cache near by, and by POST if that brings nothing usable. The error is an *Error; a responder that is
// down is of the kind KindUnavailable.
func Fetch(ctx context.Context, leaf, issuer *x509.Certificate) (*Response, error) {
	address := Responder(leaf)
	if address == "" {
		return nil, fault(KindNoResponder, "the certificate names no OCSP responder")
	}
	request, err := ocsp.CreateRequest(leaf, issuer, nil) // SHA-1 names the certificate: some responders know no other digest
	if err != nil {
		return nil, fault(KindInvalid, "no request can be made: %s", finding.Quote(err.Error(), finding.MostQuoted))
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: mostHeaders}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: follow, Timeout: patience}
	var problems []error
	for _, ask := range []func(context.Context, string, []byte) (*http.Request, error){byGET, byPOST} {
		r, err := attempt(ctx, client, address, request, ask, leaf, issuer)
		if err == nil && r != nil {
			return r, nil
		}
		if err != nil {
			problems = append(problems, err)
		}
		if ctx.Err() != nil && len(problems) > 0 {
			break
		}
	}
	if len(problems) == 0 { // there was no time for a question
		problems = append(problems, ctx.Err())
	}
	last := problems[len(problems)-1]
	return nil, fault(KindUnavailable, "the OCSP responder %s gave no usable answer: %s", finding.Quote(address, finding.MostQuoted), last).
		next("mxcert asks again; if it stays so, can this host reach it (curl -v %s), and does the CA report trouble?", finding.Quote(address, finding.MostQuoted))
}

// attempt makes one request. It returns nothing if the request does not fit the method.
func attempt(ctx context.Context, client *http.Client, address string, body []byte, ask func(context.Context, string, []byte) (*http.Request, error), leaf, issuer *x509.Certificate) (*Response, error) {
	request, err := ask(ctx, address, body)
	if err != nil || request == nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/ocsp-response")
	request.Header.Set("User-Agent", "mxcert")
	answer, err := client.Do(request)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the URL is in the message already
		}
		return nil, errors.New(finding.Quote(err.Error(), finding.MostQuoted))
	}
	defer answer.Body.Close()
	der, err := read(answer)
	if err != nil {
		return nil, err
	}
	r, err := Parse(der, leaf, issuer, time.Now())
	if err != nil {
		return nil, err
	}
	if r.Expired(time.Now()) {
		return nil, fmt.Errorf("the response expired at %s", clock(r.NextUpdate))
	}
	return r, nil
}

// byGET makes a request whose URL holds the question (RFC 6960 appendix A.1); nil if it would be too long.
func byGET(ctx context.Context, address string, body []byte) (*http.Request, error) {
	long := strings.TrimSuffix(address, "/") + "/" + url.QueryEscape(base64.StdEncoding.EncodeToString(body))
	if len(long) > longestGET {
		return nil, nil
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, long, nil)
}

func byPOST(ctx context.Context, address string, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err == nil {
		request.Header.Set("Content-Type", "application/ocsp-request")
	}
	return request, err
}

// follow limits redirects, and keeps them on the web.
func follow(to *http.Request, via []*http.Request) error {
	switch {
	case len(via) > mostRedirects:
		return errors.New("too many redirects")
	case !usable(to.URL.String()):
		return fmt.Errorf("a redirect to %s, which is no address on the web", finding.Quoted(to.URL.String(), finding.MostQuoted))
	case via[0].Method != http.MethodGet:
		return errors.New("a redirect of a question by POST")
	}
	return nil
}

// read checks the head of an answer and reads its body.
func read(answer *http.Response) ([]byte, error) {
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", finding.Quoted(answer.Status, 60))
	}
	given := answer.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(given); given != "" && (err != nil || media != "application/ocsp-response") {
		return nil, fmt.Errorf("the answer is of the type %s, not application/ocsp-response", finding.Quoted(given, 60))
	}
	der, err := io.ReadAll(io.LimitReader(answer.Body, Largest+1))
	if err != nil {
		return nil, errors.New(finding.Quote(err.Error(), finding.MostQuoted))
	}
	return der, nil
}

// usable reports whether a responder at that URL can be asked.
func usable(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

package acme

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

const (
	// The CA's Retry-After is both the least and the most time until the next look (RFC 9773 section 4.3), within reason.
	ariSoonest = time.Minute
	ariLatest  = 24 * time.Hour
	// ariAfterFailure is the pause after an answer that could not be used.
	ariAfterFailure = 6 * time.Hour
	ariRequests     = 10
)

// ErrNoRenewalInfo says that the CA does not offer renewal information, or has none for this certificate.
var ErrNoRenewalInfo = errors.New("the CA gives no renewal information")

// certID is the certificate's identifier for renewal information (RFC 9773 section 4.1); "" where it has no authority
// key identifier.
func certID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 {
		return ""
	}
	// The serial as DER encodes it: with a leading zero byte where the first bit is set.
	serial := leaf.SerialNumber.Bytes()
	if len(serial) == 0 || serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...)
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// RenewalInfo asks the CA when a certificate is to be renewed (RFC 9773), if it is time to ask again, and gives what to
// remember of the answer; known is what was remembered. From each new window one instant is drawn, uniformly, and kept.
// An answer that cannot be used leaves the old one in force until the next try; the error says why it cannot.
func (c *Client) RenewalInfo(ctx context.Context, leaf *x509.Certificate, known state.RenewalInfo) (state.RenewalInfo, error) {
	now := time.Now()
	if now.Before(known.NextCheck) || now.After(leaf.NotAfter) {
		return known, nil // an expired certificate is not asked for (RFC 9773 section 4.3)
	}
	known.NextCheck = now.Add(ariAfterFailure).UTC()
	answer, wait, err := c.fetchRenewalInfo(ctx, leaf)
	if err != nil {
		return known, err
	}
	known.NextCheck = now.Add(max(ariSoonest, min(wait, ariLatest))).UTC()
	known.Explanation = answer.Explanation
	if answer.Window.Start.Equal(known.Start) && answer.Window.End.Equal(known.End) {
		return known, nil
	}
	known.Start, known.End = answer.Window.Start.UTC(), answer.Window.End.UTC()
	known.At = schedule.Draw(known.Start, known.End)
	return known, nil
}

// renewalAnswer is the CA's answer (RFC 9773 section 4.2).
type renewalAnswer struct {
	Window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	} `json:"suggestedWindow"`
	Explanation string `json:"explanationURL"`
}

func (c *Client) fetchRenewalInfo(ctx context.Context, leaf *x509.Certificate) (answer renewalAnswer, wait time.Duration, err error) {
	id := certID(leaf)
	if id == "" {
		return answer, 0, ErrNoRenewalInfo
	}
	t := c.newTransport(ctx, ariRequests)
	o := &operation{client: c, transport: t}
	client := t.httpClient()
	directory, err := c.readDirectory(ctx, client)
	if err != nil {
		return answer, 0, o.explain("directory", err)
	}
	if !directory.RenewalInfo {
		return answer, 0, ErrNoRenewalInfo
	}
	url := directory.renewalInfo + "/" + id
	status, err := c.get(ctx, client, url, &answer)
	if status == http.StatusNotFound {
		return answer, 0, ErrNoRenewalInfo
	}
	if err != nil {
		return answer, 0, o.explain("renewal information", err)
	}
	answer.Explanation = quote(answer.Explanation)
	return answer, t.retryAfterOf(url), o.explain("renewal information", checkWindow(answer.Window.Start, answer.Window.End, leaf))
}

// get fetches a JSON document. lego's own call takes an error page for an answer. Error answers are
// *legoacme.ProblemDetails.
func (c *Client) get(ctx context.Context, client *http.Client, url string, v any) (status int, err error) {
	defer rescue(&err)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("User-Agent", c.settings.UserAgent)
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body) // the transport has capped it
	switch {
	case err != nil:
	case response.StatusCode >= http.StatusBadRequest:
		problem := &legoacme.ProblemDetails{}
		if err = json.Unmarshal(body, problem); err == nil { // the transport has made it one
			problem.Method, problem.URL, problem.HTTPStatus = http.MethodGet, url, response.StatusCode
			err = problem
		}
	case response.StatusCode != http.StatusOK:
		err = refusal("%s answered %d", authority.Name(url), response.StatusCode)
	default:
		err = json.Unmarshal(body, v)
	}
	return response.StatusCode, err
}

// checkWindow refuses what is no window: an end that is not after the start (RFC 9773 section 4.2), or one that is
// wider than the certificate lives, from which an instant would mean nothing.
func checkWindow(start, end time.Time, leaf *x509.Certificate) error {
	switch {
	case start.IsZero() || !end.After(start):
		return refusal("the renewal window from %s to %s is none", start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	case end.Sub(start) > leaf.NotAfter.Sub(leaf.NotBefore):
		return refusal("the renewal window of %s is wider than the certificate's life", end.Sub(start))
	}
	return nil
}

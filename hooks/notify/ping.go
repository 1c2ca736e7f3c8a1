package notify

import (
	"context"
	"net/url"
	"strings"
)

// ping is a dead man's switch as healthchecks.io documents it: a request to its URL says that all is well, one to URL/fail that it is not.
// The body is kept there for people. https://healthchecks.io/docs/http_api/
type ping struct {
	name string
	url  Secret
}

// mostPing is how much of the text is sent. healthchecks.io keeps 100 kB; others keep less.
const mostPing = 10_000

// NewPing returns a dead man's switch.
func NewPing(name string, url Secret) Pinger { return &ping{name: name, url: url} }

func (p *ping) Name() string { return p.name }

// Ping says that all is well, or that it is not.
func (p *ping) Ping(ctx context.Context, well bool, text string) error {
	address, err := readURL(p.url)
	if err != nil {
		return err
	}
	if !well {
		address = failing(address)
	}
	return request{what: "the dead man's switch", address: address, kind: "text/plain; charset=utf-8", body: []byte(lines(text, mostPing))}.call(ctx)
}

// Probe tests what a ping needs, without sending one.
func (p *ping) Probe(context.Context, bool) error {
	_, err := readURL(p.url)
	return err
}

// failing adds /fail to the path of a URL, and keeps its query.
func failing(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // the request says what is wrong
	}
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/") + "/fail"
	u.Path = strings.TrimRight(u.Path, "/") + "/fail"
	return u.String()
}

// Secret reads a secret at the moment at which it is needed. Its error contains no secret.
type Secret func() (string, error)

// readURL reads a secret URL and checks it.
func readURL(secret Secret) (string, error) {
	address, err := secret()
	if err != nil {
		return "", err
	}
	address = strings.TrimSpace(address)
	if err := CheckURL(address); err != nil {
		return "", &Error{message: "the secret is not a URL that mxcert uses: " + err.Error(), kind: Setting, hint: "copy the URL again, on one line"}
	}
	return address, nil
}

// Prober is a channel that can be tested without sending a message.
type Prober interface {
	// Probe tests what sending needs: programs, secrets and, if online is set, the relay.
	Probe(ctx context.Context, online bool) error
}

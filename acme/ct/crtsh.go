package ct

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/finding"
)

const crtshURL = "https://crt.sh"

// crtsh asks crt.sh, which Sectigo runs for everybody. It is often slow or away, has no pages and documents no limits.
type crtsh struct {
	client
	base string
}

const (
	// mostRows limits an answer of crt.sh.
	mostRows = 100_000
	// mostSerial limits a serial number in hexadecimal; RFC 5280 section 4.1.2.2 allows 20 bytes.
	mostSerial = 128
)

// CrtSh returns the service at base; "" is crt.sh. agent is product and version.
func CrtSh(base, agent string) Source {
	if base == "" {
		base = crtshURL
	}
	return crtsh{client: newClient("crt.sh", agent, nil), base: strings.TrimSuffix(base, "/")}
}

func (crtsh) Name() string { return "crtsh" }

// Pace is what others have found to be tolerated, and some more.
func (crtsh) Pace(Question) time.Duration { return time.Minute }

// row is what is read of a line of crt.sh. A certificate and its pre-certificate have a row each.
type row struct {
	ID        int64    `json:"id"`
	Issuer    string   `json:"issuer_name"`
	Common    string   `json:"common_name"`
	Names     string   `json:"name_value"` // one a line
	Serial    string   `json:"serial_number"`
	NotBefore crtshDay `json:"not_before"`
	NotAfter  crtshDay `json:"not_after"`
}

// crtshDay is a time without a zone, which is UTC.
type crtshDay struct{ time.Time }

func (d *crtshDay) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	at, err := time.Parse("2006-01-02T15:04:05", s)
	d.Time = at
	return err
}

// second is the cursor of the second part of a question: crt.sh takes one pattern in a request.
const second = "second"

// Since asks for all certificates that have not expired: first those of the name, and then those of the wildcard beside it, or of everything
// below it.
func (s crtsh) Since(ctx context.Context, q Question, cursor string) (Page, error) {
	identity, page := q.Name, Page{Cursor: second, More: true}
	if cursor == second {
		_, parent, _ := strings.Cut(q.Name, ".")
		if identity, page = "*."+parent, (Page{}); q.Below {
			identity = "%." + q.Name
		}
	}
	query := url.Values{"q": {identity}, "output": {"json"}, "exclude": {"expired"}, "deduplicate": {"Y"}}
	notYet, err := s.get(ctx, s.base+"/?"+query.Encode(), func(body io.Reader) error {
		return elements(body, mostRows, func(one row) error {
			e, err := s.entry(one)
			page.Entries = append(page.Entries, e)
			return err
		})
	})
	if err != nil {
		return Page{Cursor: cursor}, err
	}
	page.NotYet = notYet
	return page, nil
}

func (s crtsh) entry(one row) (Entry, error) {
	serial := strings.ToLower(one.Serial)
	if len(serial) > mostSerial || !isHex(serial) {
		return Entry{}, errors.New("a certificate has no usable serial number")
	}
	serial = cmp.Or(strings.TrimLeft(serial, "0"), "0")
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	id := strconv.FormatInt(one.ID, 10)
	return Entry{Serial: serial, Issuer: finding.Quote(one.Issuer, mostText), Names: plain(append(strings.Fields(one.Names), strings.Fields(one.Common)...)),
		NotBefore: one.NotBefore.Time, NotAfter: one.NotAfter.Time, Source: s.Name(), Link: s.base + "/?id=" + id, id: id}, nil
}

// Complete fetches the certificate itself.
func (s crtsh) Complete(ctx context.Context, e Entry) (Entry, error) {
	var text []byte
	_, err := s.get(ctx, s.base+"/?d="+url.QueryEscape(e.id), func(body io.Reader) (err error) {
		text, err = io.ReadAll(io.LimitReader(body, 1<<20))
		return err
	})
	if err != nil {
		return e, err
	}
	c, err := parseOne(text)
	if err != nil {
		return e, s.failed("gave no certificate for %s", finding.Quote(e.id, mostText))
	}
	full := FromCertificate(c)
	full.Issuer = finding.Quote(full.Issuer, mostText)
	full.Source, full.Link, full.id = e.Source, e.Link, e.id
	return full, nil
}

// parseOne reads one certificate in PEM or DER.
func parseOne(text []byte) (*x509.Certificate, error) {
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("the first block in PEM is not a certificate")
		}
		text = block.Bytes
	}
	return x509.ParseCertificate(text)
}

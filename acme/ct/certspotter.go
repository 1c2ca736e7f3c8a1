package ct

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
)

// CertSpotterURL is where SSLMate's service is (sslmate.com/help/reference/ct_search_api_v1).
const CertSpotterURL = "https://api.certspotter.com"

// certSpotter asks SSLMate's Certificate Transparency Search API, version 1.
type certSpotter struct {
	client
	base string
}

// mostIssuances limits a page; the service gives a hundred or so.
const mostIssuances = 5000

// CertSpotter returns the service at base; "" is SSLMate's. token reads the API token; nil if there is none. agent is product and version.
func CertSpotter(base, agent string, token func() (string, error)) Source {
	if base == "" {
		base = CertSpotterURL
	}
	return certSpotter{client: newClient("Cert Spotter", agent, token), base: strings.TrimSuffix(base, "/")}
}

func (certSpotter) Name() string { return "certspotter" }

// Pace keeps below what is free in an hour: 100 requests about single names, and 10 about whole domains. Who has a token pays for more.
func (s certSpotter) Pace(q Question) time.Duration {
	switch {
	case s.token != nil:
		return 10 * time.Second
	case q.Below:
		return 400 * time.Second
	}
	return 40 * time.Second
}

// issuance is what is read of an issuance object.
type issuance struct {
	ID        string    `json:"id"`
	Names     []string  `json:"dns_names"`
	SPKI      string    `json:"pubkey_sha256"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Revoked   bool      `json:"revoked"`
	DER       []byte    `json:"cert_der"`
	Issuer    struct {
		FriendlyName string `json:"friendly_name"`
		Name         string `json:"name"`
	} `json:"issuer"`
}

// Since asks for the issuances after one. The service gives the oldest first, and an empty page at the end.
func (s certSpotter) Since(ctx context.Context, q Question, cursor string) (Page, error) {
	query := url.Values{"domain": {q.Name}, "match_wildcards": {"true"}, "expand": {"dns_names", "issuer", "revocation", "cert_der"}}
	if q.Below {
		query.Set("include_subdomains", "true")
	}
	if cursor != "" {
		query.Set("after", cursor)
	}
	page := Page{Cursor: cursor}
	read := func(body io.Reader) error {
		return elements(body, mostIssuances, func(one issuance) error {
			if one.ID == "" || len(one.ID) > 64 || strings.ContainsAny(one.ID, " \t\r\n") {
				return errors.New("an issuance has no usable id")
			}
			page.Cursor = one.ID
			page.Entries = append(page.Entries, s.entry(one))
			return nil
		})
	}
	notYet, err := s.get(ctx, s.base+"/v1/issuances?"+query.Encode(), read)
	if err != nil {
		return Page{Cursor: cursor}, err
	}
	page.More, page.NotYet = len(page.Entries) > 0, notYet
	if page.More && page.Cursor == cursor {
		return Page{Cursor: cursor}, s.failed("gave the same page again")
	}
	return page, nil
}

// entry prefers what the certificate itself says to what the service says about it.
func (s certSpotter) entry(one issuance) Entry {
	e := Entry{SPKI: strings.ToLower(one.SPKI), Issuer: one.Issuer.Name, Names: plain(one.Names), NotBefore: storable(one.NotBefore), NotAfter: storable(one.NotAfter)}
	if c, err := x509.ParseCertificate(one.DER); err == nil {
		read := FromCertificate(c)
		read.Names = plain(slices.Concat(read.Names, e.Names))
		e = read
	}
	if len(e.Serial) > mostSerial {
		e.Serial = ""
	}
	if len(e.SPKI) != 64 || !isHex(e.SPKI) {
		e.SPKI = bundle.SPKIOf(one.DER) // at least it names this issuance
	}
	if one.Issuer.FriendlyName != "" {
		e.Issuer = one.Issuer.FriendlyName + " (" + e.Issuer + ")"
	}
	e.Issuer = finding.Quote(e.Issuer, mostText)
	e.Source, e.Revoked, e.id = s.Name(), one.Revoked, one.ID
	if e.Serial != "" {
		e.Link = crtshURL + "/?serial=" + e.Serial
	}
	return e
}

// storable returns a time in UTC. The zone can make it one that JSON does not have.
func storable(t time.Time) time.Time {
	t = t.UTC()
	switch {
	case t.Year() < 1:
		return time.Time{}
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}

// isHex reports whether a text is a number in lower-case hexadecimal. The lists of what is known have such numbers, apart by spaces.
func isHex(text string) bool { return text != "" && strings.Trim(text, "0123456789abcdef") == "" }

// elements decodes a JSON array, one element after the other, so that a long one does not need its length in memory twice.
func elements[T any](body io.Reader, most int, take func(T) error) error {
	d := json.NewDecoder(body)
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return errors.New("it is no array")
	}
	for n := 0; d.More(); n++ {
		if n == most {
			return errors.New("the array has too many elements")
		}
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		if err := take(one); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

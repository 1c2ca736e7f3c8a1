// Package ct looks for certificates of our names that we did not order. The logs of certificate transparency show every certificate that
// senders and browsers may trust (RFC 6962, RFC 9162); a service that has indexed them is a [Source].
//
// It asks such services and no log: a log cannot be asked about a name, and most logs of today speak static-ct only, so that whoever follows
// them reads all of the world's certificates. The program certspotter does that; `mxcert ct ours` tells it which certificates are ours.
//
// A [Watch] asks about each name in turn, a page at a time, within the limits of the services. The first look at a name learns: what is there
// already is remembered and not told. What comes later and is not [Ours] is unknown, until somebody accepts it or its life is over. All that
// is remembered is bounded, and is one value: [Memory].
package ct

import (
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Source is a service that knows what is in the logs.
type Source interface {
	// Name is the word by which the configuration and messages call it.
	Name() string
	// Pace is how long after a request about a question the next request must wait, by what the service allows for free or with a token.
	Pace(q Question) time.Duration
	// Since returns the next page of what the service has found about a question, beginning after a cursor of an earlier page; "" is the
	// beginning. It makes one request, which has a deadline, and returns no more than fits into memory. The error is an *Error.
	Since(ctx context.Context, q Question, cursor string) (Page, error)
}

// Completer is a Source whose pages do not say everything about an entry.
type Completer interface {
	// Complete returns an entry with what the certificate itself says. It makes one request.
	Complete(ctx context.Context, e Entry) (Entry, error)
}

// Page is a part of an answer.
type Page struct {
	Entries []Entry
	Cursor  string    // where the next page begins
	More    bool      // there may be a next page now
	NotYet  time.Time // the service asks not to be asked again before; zero if it does not
}

// Entry is one issuance: a certificate, its pre-certificate, or both.
type Entry struct {
	Serial    string    `json:"serial"`      // lower-case hexadecimal; "" if the certificate cannot be read
	SPKI      string    `json:"spki_sha256"` // in hexadecimal; "" if it is not known
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"` // no more than mostNames
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Source    string    `json:"source"`
	Link      string    `json:"link"` // where a person can read more
	Revoked   bool      `json:"revoked,omitempty"`

	id string // of the source, for Complete
}

const (
	// mostNames limits the names of an entry that are kept; a certificate may have hundreds.
	mostNames = 20
	// fewNames is how many are kept if there is no room.
	fewNames = 3
	// mostNameBytes limits all of them together: 200 certificates with the longest names must fit into the memory.
	mostNameBytes = 2000
	// longestName is the length of the longest name in DNS, in bytes.
	longestName = 253
	// mostText limits foreign text that is kept, in bytes.
	mostText = 200
)

// FromCertificate returns what a certificate or pre-certificate says about itself.
func FromCertificate(c *x509.Certificate) Entry {
	return Entry{Serial: bundle.SerialOf(c), SPKI: bundle.SPKIOf(c.RawSubjectPublicKeyInfo), Issuer: c.Issuer.String(), Names: namesOf(c),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
}

// namesOf lists the names for which a certificate is valid, also the one in its subject, which old software accepts.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	if cn := c.Subject.CommonName; cn != "" && strings.Contains(cn, ".") && !strings.Contains(cn, " ") {
		names = append(names, cn)
	}
	return plain(names)
}

// plain returns names in lower case, each once. What is longer than any name in DNS is left out: it can be none of ours.
func plain(names []string) []string {
	list := make([]string, 0, len(names))
	for _, name := range names {
		if name = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), "."); len(name) <= longestName {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ID names an issuance in commands: the serial, or the key if the serial is not known.
func (e Entry) ID() string { return cmp.Or(e.Serial, e.SPKI) }

// same reports whether two entries are about one issuance. CAs choose serials at random, so that equal ones with different keys are two.
func (e Entry) same(other Entry) bool {
	return e.ID() == other.ID() && (e.SPKI == other.SPKI || e.SPKI == "" || other.SPKI == "")
}

// rehearsal reports whether a staging service has issued it, which nobody trusts.
func (e Entry) rehearsal() bool { return strings.Contains(e.Issuer, "(STAGING)") }

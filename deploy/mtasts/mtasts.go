// Package mtasts finds out which MTA-STS policy a domain has (RFC 8461), as a sender without a cached policy does: the TXT record at
// _mta-sts, and the policy over HTTPS from mta-sts.DOMAIN. It asks every address of the policy host, because senders of one address family
// meet only a part of them.
//
// [Memory] remembers the policies of a host's own domains. It finds a policy that has changed although its id has not, and says what senders
// do that have cached an older one.
//
// Not supported: HTTP/2 and proxies, which no policy host needs.
package mtasts

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// Mode says what senders do with a host that fails (RFC 8461 section 5).
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Testing Mode = "testing"
	None    Mode = "none"
)

// Result types of RFC 8460 section 4.3.2.2.
const (
	FetchError    = "sts-policy-fetch-error" // the policy cannot be had
	PolicyInvalid = "sts-policy-invalid"     // the record or the policy breaks the rules
	WebPKIInvalid = "sts-webpki-invalid"     // the certificate of the policy host does not hold
)

// Policy is a policy that senders can use (RFC 8461 section 3.2).
type Policy struct {
	Mode   Mode          `json:"mode"`
	MaxAge time.Duration `json:"max_age"`
	MX     []string      `json:"mx"` // patterns, lower case
}

// Found is what a look has found.
type Found struct {
	Domain   string
	ID       string  // of the TXT record; "" if there is no usable record
	Policy   *Policy // nil if senders without a cached policy have none; then Reason says why
	Type     string  // of the failure: an RFC 8460 result type; "" if the domain has no MTA-STS at all
	Reason   string
	Findings []finding.Finding
	// NotJudged says that nobody can tell from here whether senders have a policy: the DNS question failed, the policy host has no address
	// that this host has a route to, or crypto/tls does not speak with it.
	NotJudged bool
}

// Client looks for policies.
type Client struct {
	Resolver *resolve.Resolver
	Roots    *x509.CertPool // nil: those of the system
	// Also are roots that count for the policy host, too. The roots of a private CA may be those of the mail hosts alone. nil: none.
	Also *x509.CertPool
	At   time.Time // when certificates must be valid; zero: now
	// Stray also looks for a policy if there is no TXT record. Senders do not, so such a policy has no effect: that is a finding.
	Stray bool
	// Dialer connects to the policy host; by default the system's way to connect is used.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
}

// wholeTime limits a look: RFC 8461 section 3.3 suggests one minute.
const wholeTime = time.Minute

// olderPolicy says what a failure means to senders that know an older policy (RFC 8461 section 5.1).
const olderPolicy = "senders that have cached an older policy go on with that one until its max_age ends"

// Look finds the policy of a domain. It ends within the minute of RFC 8461 section 3.3, or when ctx ends.
func (c Client) Look(ctx context.Context, domain string) Found {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	found := c.look(ctx, domain)
	if found.Type == WebPKIInvalid && c.Also != nil {
		c.Roots = c.Also
		if again := c.look(ctx, domain); again.Type != WebPKIInvalid {
			return again
		}
	}
	return found
}

func (c Client) look(ctx context.Context, domain string) Found {
	found := Found{Domain: strings.ToLower(strings.TrimSuffix(domain, "."))}
	set := c.Resolver.LookTXT(ctx, "_mta-sts."+found.Domain)
	if set.Err != nil {
		found.NotJudged = true
		found.fail(fault{kind: FetchError, id: FetchError, reason: fmt.Sprintf("%s; without the record senders use no policy, and %s", set.Err.Error(), olderPolicy), hint: set.Err.Hint()})
		return found
	}
	id, notes, f := readRecords(set.Records)
	found.add(notes...)
	switch {
	case f != nil:
		found.fail(*f)
	case id == "":
		found.Reason = fmt.Sprintf("%s has no MTA-STS: there is no TXT record v=STSv1 at _mta-sts.%[1]s", found.Domain)
		if c.Stray {
			c.lookForStray(ctx, &found)
		}
	default:
		found.ID = id
		c.fetch(ctx, &found)
	}
	return found
}

// fault is why senders without a cached policy have none.
type fault struct {
	kind, id     string // result type of RFC 8460, and the id of the finding
	reason, hint string
	notJudged    bool
}

// fail notes a fault as the reason why there is no policy, and as a finding.
func (f *Found) fail(why fault) {
	f.Type, f.Reason, f.NotJudged = why.kind, why.reason, f.NotJudged || why.notJudged
	severity := finding.Error
	if f.NotJudged {
		severity = finding.Warning
	}
	f.add(finding.New(why.id, severity, "%s", why.reason).Next(why.hint))
}

func (f *Found) add(list ...finding.Finding) {
	for _, found := range list {
		f.Findings = append(f.Findings, found.About(f.Domain).Next(strings.ReplaceAll(found.Hint, "DOMAIN", f.Domain)))
	}
}

// lookForStray finds a policy that no sender asks for.
func (c Client) lookForStray(ctx context.Context, found *Found) {
	stray := Found{Domain: found.Domain}
	if c.fetch(ctx, &stray); stray.Policy != nil {
		found.add(finding.New("sts-policy-without-record", finding.Warning, "https://%s%s is a policy (mode %s), but no sender asks for it, because there is no TXT record at _mta-sts.%s",
			host(found.Domain), path, stray.Policy.Mode, found.Domain).Next(fmt.Sprintf("publish the record: _mta-sts.%s. TXT \"v=STSv1; id=1;\"", found.Domain)))
	}
}

package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Live is a certificate in service that expires later than the one that would replace it.
type Live struct {
	Path        string    `json:"path"` // of the first file at the target
	Serial      string    `json:"serial"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	NewNotAfter time.Time `json:"new_not_after"` // of the new certificate
}

// longer finds a certificate in service that covers the same names and expires later than the one that would replace it. If there are
// several, it returns the one that expires last; if there is none, nil. Such a certificate may come from another program or another host,
// or the state directory may be an old backup. Self-signed certificates do not count, because senders do not trust them.
func (p *Plan) longer() (latest *Live) {
	for job, pairs := range p.touched() {
		for _, pair := range pairs {
			live, err := bundle.Parse(pair.chain, pair.key)
			if err != nil || selfSigned(live) || !sameNames(live, job.Bundle) || !live.NotAfter().After(job.Bundle.NotAfter()) ||
				latest != nil && !live.NotAfter().After(latest.NotAfter) {
				continue
			}
			latest = &Live{Path: job.Target.Places(job.Bundle)[0], Serial: live.Serial(), Issuer: live.Leaf().Issuer.CommonName,
				NotAfter: live.NotAfter(), NewNotAfter: job.Bundle.NotAfter()}
		}
	}
	return latest
}

// Shortens returns an *Error if the plan would replace a certificate by one that expires earlier, and the replaced one is still valid at
// the given time.
func (s Summary) Shortens(at time.Time) error {
	l := s.Longer
	if l == nil || at.After(l.NotAfter) {
		return nil
	}
	return &Error{Op: "replace", Path: l.Path, Err: &fault{kind: kindLonger,
		text: fmt.Sprintf("the certificate in service there (serial %s, from %q) is valid until %s, longer than the new one (%s)",
			l.Serial, l.Issuer, l.NotAfter.UTC().Format(time.RFC3339), l.NewNotAfter.UTC().Format(time.RFC3339)),
		hint: "if the new one is to replace it all the same (another CA, another profile): mxcert deploy NAME --shorter"}}
}

func selfSigned(b *bundle.Bundle) bool {
	return string(b.Leaf().RawIssuer) == string(b.Leaf().RawSubject)
}

func sameNames(a, b *bundle.Bundle) bool {
	names := func(b *bundle.Bundle) []string {
		list := make([]string, 0, len(b.Leaf().DNSNames))
		for _, name := range b.Leaf().DNSNames {
			list = append(list, strings.ToLower(name))
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	return slices.Equal(names(a), names(b))
}

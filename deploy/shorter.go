package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Shortens reports a certificate for the same names that is live at a target and valid for longer than the one that the plan
// puts in its place: a state directory from a backup, another program, or another host may have brought that about. Self-signed certificates
// do not count, senders take them for nothing. The error is a *LongerError.
func (p *Plan) Shortens(at time.Time) error {
	return p.touched(func(job Job, pairs [][2][]byte) error {
		for _, pair := range pairs {
			live, err := bundle.Parse(pair[0], pair[1])
			if err != nil || at.After(live.NotAfter()) || selfSigned(live) || !sameNames(live, job.Bundle) || !live.NotAfter().After(job.Bundle.NotAfter()) {
				continue
			}
			return &LongerError{Path: job.Target.Places(job.Bundle)[0], Serial: live.Serial(), Issuer: live.Leaf().Issuer.CommonName,
				Until: live.NotAfter(), New: job.Bundle.NotAfter()}
		}
		return nil
	})
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

// LongerError is a live certificate that must not give way to one that ends earlier.
type LongerError struct {
	Path           string // of the first file at the target
	Serial, Issuer string // of what is live
	Until, New     time.Time
}

// Error says which, and until when.
func (e *LongerError) Error() string {
	return fmt.Sprintf("the certificate in service at %s (serial %s, from %q) is valid until %s, longer than the new one (%s): it stays",
		e.Path, e.Serial, e.Issuer, e.Until.UTC().Format(time.RFC3339), e.New.UTC().Format(time.RFC3339))
}

// Kind is longer-lived.
func (e *LongerError) Kind() string { return "longer-lived" }

// Hint says how to replace it all the same.
func (e *LongerError) Hint() string {
	return "if the new one is to replace it all the same (another CA, another profile): mxcert deploy NAME --shorter"
}

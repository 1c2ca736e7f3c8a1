package deploy

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Live is a certificate in service that expires later than the one that would replace it.
type Live struct {
	Path        string         `json:"path"` // of the first file at the target
	Key         bundle.KeyType `json:"key"`
	Serial      string         `json:"serial"`
	Issuer      string         `json:"issuer"`
	NotAfter    time.Time      `json:"not_after"`
	NewNotAfter time.Time      `json:"new_not_after"`   // of the new certificate
	Fault       string         `json:"fault,omitempty"` // why it is replaced all the same: senders would not trust it; "" if they do
	SameCA      bool           `json:"same_ca"`         // the issuer of the new certificate has signed it, too, or another of the same organization
}

// String says which certificate it is, and that it ends later.
func (l *Live) String() string {
	return fmt.Sprintf("the certificate in service there (serial %s, from %.80q) is valid until %s, longer than the new one (%s)",
		l.Serial, l.Issuer, l.NotAfter.UTC().Format(time.RFC3339), l.NewNotAfter.UTC().Format(time.RFC3339))
}

// precedes reports whether it matters more than another one: one without fault does, then one that expires later.
func (l *Live) precedes(other *Live) bool {
	if other == nil || (l.Fault == "") != (other.Fault == "") {
		return other == nil || l.Fault == ""
	}
	return l.NotAfter.After(other.NotAfter)
}

// longer finds a certificate in service that covers the same names and expires later than the one that would replace it. If there are
// several, it returns the one that expires last, if possible one without fault; if there is none, nil. Such a certificate may come from
// another program or another host, or the state directory may be an old backup. Self-signed certificates do not count.
func (p *Plan) longer() (first *Live) {
	for job, pairs := range p.touched() {
		for _, pair := range pairs {
			live, err := bundle.Parse(pair.chain, pair.key)
			if err != nil || selfSigned(live) || !sameNames(live, job.Bundle) || !live.NotAfter().After(job.Bundle.NotAfter()) {
				continue
			}
			found := &Live{Path: job.Target.Places(job.Bundle)[0], Key: job.Bundle.KeyType(), Serial: live.Serial(), Issuer: live.Leaf().Issuer.CommonName,
				NotAfter: live.NotAfter(), NewNotAfter: job.Bundle.NotAfter(), Fault: job.faultOf(live), SameCA: sameCA(live.Leaf(), job.Bundle.Leaf())}
			if found.precedes(first) {
				first = found
			}
		}
	}
	return first
}

// faultOf returns why a certificate in service could not have been issued for the job, or "" if it could. Anybody can make a CA whose
// certificates are valid for a hundred years. If no roots are required, a private or a test CA counts only if it issued the new one, too.
func (j Job) faultOf(live *bundle.Bundle) string {
	want := bundle.Want{Roots: j.Roots, At: time.Now()} // longer has compared the names
	warnings, err := live.Check(want)
	if err != nil {
		return err.Error()
	}
	if len(warnings) == 0 {
		return ""
	}
	want.Roots = x509.NewCertPool()
	for _, issuer := range j.Bundle.Chain()[1:] {
		want.Roots.AddCert(issuer)
	}
	if _, err := live.Check(want); err != nil {
		return "it is not from the CA of the new one, and this system does not trust it"
	}
	return ""
}

// Shortens returns an *Error if the plan would replace a certificate without fault by one that expires earlier, and the replaced one is
// still valid at the given time.
func (s Summary) Shortens(at time.Time) error {
	l := s.Longer
	if l == nil || l.Fault != "" || at.After(l.NotAfter) {
		return nil
	}
	return &Error{Op: "replace", Path: l.Path, Err: &fault{kind: kindLonger, text: l.String(),
		hint: "if the new one is to replace it all the same (another CA, another profile): mxcert deploy NAME --shorter"}}
}

// sameCA reports whether two certificates are from one CA. A CA has several intermediates, with one organization.
func sameCA(a, b *x509.Certificate) bool {
	if len(a.AuthorityKeyId) > 0 && bytes.Equal(a.AuthorityKeyId, b.AuthorityKeyId) {
		return true
	}
	return len(a.Issuer.Organization) > 0 && slices.Equal(a.Issuer.Organization, b.Issuer.Organization)
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

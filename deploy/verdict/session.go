package verdict

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"mxcert/deploy/starttls"
)

// session is what the handshakes with some server names say together.
type session struct {
	shown   []Handshake // TLS was established; each chain once
	refused *Handshake  // a sender meets the same failure
	foreign *Handshake  // the server offers what crypto/tls cannot speak or read
	missed  *Handshake  // nothing is known: the network, or the server refuses this client
	old     bool        // only TLS 1.1 or older was established
	made    bool        // there was such a handshake
	whole   bool        // TLS was established with all that crypto/tls offers, as senders do
}

// with collects the handshakes with one of the server names.
func (j *judge) with(names ...string) session {
	var s session
	for _, h := range j.Handshakes {
		if slices.ContainsFunc(names, func(name string) bool { return sameName(sni(name), sni(h.ServerName)) }) {
			s.made = true
			s.take(h)
		}
	}
	s.old = len(s.shown) > 0 && !slices.ContainsFunc(s.shown, func(h Handshake) bool { return h.Shown.Version >= 0x0303 || h.Shown.Version == 0 })
	return s
}

func (s *session) take(h Handshake) {
	switch kind := kindOf(h.Err); {
	case h.Shown != nil && len(h.Shown.Chain) > 0:
		s.whole = s.whole || !partial(h)
		if !slices.ContainsFunc(s.shown, func(other Handshake) bool { return sameChain(other.Shown, h.Shown) }) {
			s.shown = append(s.shown, h)
		}
	case kind == starttls.KindNotJudged, lost(h) && !partial(h):
		s.foreign = worse(s.foreign, h)
	case weight(h) > 0:
		s.refused = worse(s.refused, h)
	default:
		s.missed = worse(s.missed, h)
	}
}

// worse keeps the handshake that says more.
func worse(old *Handshake, h Handshake) *Handshake {
	if old == nil || partial(*old) && !partial(h) && weight(h) > 0 || partial(*old) == partial(h) && weight(h) > weight(*old) {
		return &h
	}
	return old
}

// weight orders the failures that a sender meets too: the more certain, the heavier. It is 0 for a failure that says nothing about TLS.
func weight(h Handshake) int {
	var e *starttls.Error
	if !errors.As(h.Err, &e) {
		return 0
	}
	switch kind := e.Kind(); kind {
	case starttls.KindSTARTTLSNotSupported:
		return 6
	case starttls.KindTLSUnavailable:
		return 5
	case starttls.KindInjection:
		return 4
	case starttls.KindValidationFailure:
		return 3
	case starttls.KindTLSVersion:
		return 2
	case starttls.KindKeyTypeNotOffered:
		return 1
	default:
		if kind == starttls.KindRejected && e.Step == starttls.StepSTARTTLS {
			return 5
		}
		if kind == "protocol" && e.Step == starttls.StepTLS {
			return 3
		}
	}
	return 0
}

// lost reports whether the server hung up during the handshake. Exim with GnuTLS does so, without an alert, if it finds nothing in what a
// client offers; so senders that offer more than crypto/tls may succeed.
func lost(h Handshake) bool {
	e, ok := errors.AsType[*starttls.Error](h.Err)
	return ok && e.Kind() == starttls.KindConnectionLost && e.Step == starttls.StepTLS
}

// partial reports whether the handshake asked for one key type or version only, so that its failure does not concern other senders.
func partial(h Handshake) bool { return h.Ask != starttls.Any && h.Ask != "" }

// failed returns the failure that an ordinary sender meets, or nil. If TLS is established only with less than senders offer, they meet it too.
func (s session) failed() *Handshake {
	switch {
	case s.refused == nil, len(s.shown) > 0 && (partial(*s.refused) || s.whole || s.old):
		return nil
	case s.foreign != nil && weight(*s.refused) <= 3: // the same server accepts what other senders speak
		return nil
	case kindOf(s.refused.Err) == starttls.KindKeyTypeNotOffered: // each key type alone was refused: other cipher suites may do
		return nil
	}
	return s.refused
}

// unclear returns a handshake that other senders may complete, although mxcert cannot, or nil.
func (s session) unclear() *Handshake {
	if s.foreign == nil && s.refused != nil && len(s.shown) == 0 && s.failed() == nil {
		return s.refused
	}
	return s.foreign
}

func kindOf(err error) string {
	var e *starttls.Error
	if errors.As(err, &e) {
		return e.Kind()
	}
	return ""
}

func sameChain(a, b *starttls.Result) bool {
	return slices.EqualFunc(a.Chain, b.Chain, func(x, y *certificate) bool { return bytes.Equal(x.Raw, y.Raw) })
}

// sni is what a sender sends for a host: nothing for an address (RFC 6066 section 3).
func sni(host string) string {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ""
	}
	return host
}

func sameName(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// which names one of several certificates by its key, for a sentence: "the RSA certificate". A server with one certificate needs no name.
func (s session) which(h Handshake) string {
	leaf := h.Shown.Chain[0]
	if !slices.ContainsFunc(s.shown, func(other Handshake) bool { return !other.Shown.Chain[0].Equal(leaf) }) {
		return "the certificate"
	}
	switch leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return "the RSA certificate"
	case *ecdsa.PublicKey:
		return "the ECDSA certificate"
	case ed25519.PublicKey:
		return "the Ed25519 certificate"
	}
	return "one certificate"
}

// endpoint is the address and port for a command line.
func (j *judge) endpoint() string {
	port := j.Port
	if port == 0 {
		port = 25
	}
	host := j.Host
	if j.Address.IsValid() {
		host = j.Address.String()
	}
	return net.JoinHostPort(host, fmt.Sprint(port))
}

// why is the reason of a failed handshake without the address and the step, which the verdict names itself.
func why(h *Handshake) string {
	text := h.Err.Error()
	if _, after, found := strings.Cut(text, " failed at step "); found {
		if _, reason, found := strings.Cut(after, ": "); found {
			return reason
		}
	}
	return text
}

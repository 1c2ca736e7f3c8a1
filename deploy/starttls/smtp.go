package starttls

import (
	"cmp"
	"context"
	"net"
	"os"
	"strings"
	"time"

	"mxcert/acme/finding"
)

func (s *session) talkSMTP(ctx context.Context) error {
	if err := s.greeting(); err != nil {
		return err
	}
	r, err := s.ehlo(StepEHLO)
	if err != nil {
		return err
	}
	s.result.Plain, s.result.PlainEHLO = r.extensions(), nameIn(r)
	if !offers(s.result.Plain, "STARTTLS") {
		return s.notOffered()
	}
	if err := s.startTLS(); err != nil {
		return err
	}
	if err := s.handshake(ctx); err != nil {
		return err
	}
	if err := s.ehloUnderTLS(); err != nil {
		return err
	}
	if s.result.Offers("STARTTLS") {
		s.result.Findings = append(s.result.Findings, finding.New("starttls-after-tls", finding.Warning,
			"%s offers STARTTLS again although TLS is active (RFC 3207 section 4.2 forbids it)", s.request.Address).
			Next("a proxy or filter in front of the mail server probably ends TLS; look for it"))
	}
	return nil
}

func (s *session) greeting() error {
	r, err := s.exchange(StepGreeting, "", s.request.BannerTimeout)
	if err != nil {
		return err
	}
	if r.code != 220 {
		return s.rejected(StepGreeting, KindRejected, r)
	}
	s.result.Greeting = finding.Quote(cmp.Or(r.lines...), maxQuote)
	return nil
}

func (s *session) ehloUnderTLS() error {
	r, err := s.ehlo(StepEHLOAfterTLS)
	if err != nil {
		return err
	}
	s.result.Extensions, s.result.EHLO = r.extensions(), nameIn(r)
	return nil
}

// nameIn returns the name in an answer to EHLO.
func nameIn(r reply) string {
	name, _, _ := strings.Cut(r.lines[0], " ")
	return finding.Quote(name, maxQuote)
}

// ehlo returns the answer to EHLO, which has the code 250.
func (s *session) ehlo(step string) (reply, error) {
	r, err := s.exchange(step, "EHLO "+s.helo(), s.request.StepTimeout)
	switch {
	case err != nil:
		return reply{}, err
	case r.code == 250:
		return r, nil
	case (r.code == 500 || r.code == 502) && step == StepEHLO: // a server without EHLO has no STARTTLS
		e := s.rejected(step, KindSTARTTLSNotSupported, r)
		e.Stripped = masked(s.result.Greeting)
		return reply{}, e
	}
	return reply{}, s.rejected(step, KindRejected, r)
}

// startTLS asks for TLS, and makes sure that no byte in clear text follows the 220.
func (s *session) startTLS() error {
	r, err := s.exchange(StepSTARTTLS, "STARTTLS", s.request.StepTimeout)
	switch {
	case err != nil:
		return err
	case r.code == 454:
		return s.rejected(StepSTARTTLS, KindTLSUnavailable, r)
	case r.code >= 500:
		return s.rejected(StepSTARTTLS, KindSTARTTLSNotSupported, r)
	case r.code != 220:
		return s.rejected(StepSTARTTLS, KindRejected, r)
	}
	s.polite = false
	return s.nothingBuffered()
}

// nothingBuffered refuses bytes in clear text after the reply to STARTTLS.
func (s *session) nothingBuffered() error {
	if n := s.in.Buffered(); n > 0 {
		text, _ := s.in.Peek(n)
		return s.fail(StepSTARTTLS, KindInjection, "%d bytes in clear text follow the reply to STARTTLS: %s", n, literal(text))
	}
	return nil
}

// leave sends QUIT and waits a little for the answer (RFC 5321 section 4.1.1.10). Nothing depends on the answer.
func (s *session) leave() {
	if s.polite && (s.request.Protocol == SMTP || s.request.Protocol == SMTPS) {
		_, _ = s.exchange("quit", "QUIT", min(s.request.StepTimeout, 5*time.Second))
	}
}

func (s *session) helo() string {
	if s.request.HELO != "" {
		return s.request.HELO
	}
	host, _ := os.Hostname()
	return defaultHELO(host, s.conn.LocalAddr())
}

// defaultHELO returns the host's name if it is a full one, otherwise an address literal, as RFC 5321 section 4.1.4 requires.
func defaultHELO(host string, local net.Addr) string {
	if strings.Contains(host, ".") && !strings.ContainsFunc(host, notLDH) {
		return host
	}
	address, ok := local.(*net.TCPAddr)
	switch {
	case !ok:
		return "[127.0.0.1]"
	case address.IP.To4() != nil:
		return "[" + address.IP.String() + "]"
	}
	return "[IPv6:" + address.IP.String() + "]"
}

// notLDH reports whether a character is not allowed in a host name. Letters, digits, hyphen and dot are.
func notLDH(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
}

// Package starttls answers one question: which certificates does this port really serve? It connects as a sending mail server does, starts
// TLS, and reports the certificates exactly as the server sent them.
//
// [Handshake] speaks SMTP (RFC 5321): EHLO, STARTTLS (RFC 3207), TLS 1.2 or 1.3, EHLO once more, and QUIT. It never sends MAIL. On the
// ports of mail readers it speaks IMAP or POP3 up to STARTTLS. On ports with implicit TLS (465, 993, 995) it starts with TLS; see
// [Protocol].
//
// Handshake does not verify the certificate. [Match] and [CheckChain] do that afterwards, on the chain as sent, with the rules of RFC 8446
// section 4.4.2, RFC 5280 and RFC 9525. A failure carries the result type of RFC 8460 section 4.3, if one fits.
//
// The package does not use net/smtp, because its StartTLS drops bytes that arrive in clear text after the 220. A client that uses such
// bytes is open to response injection (CVE-2021-38371 and relatives), so this package reports them as an error.
//
// Not supported: LMTP, ManageSieve, TLS 1.1 and older, client certificates, revocation (OCSP, CRL), and names that are not ASCII (use the
// A-label).
package starttls

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// KeyType says which of the server's certificates to ask for.
type KeyType string

const (
	// Any accepts what the server prefers, with TLS 1.3 or 1.2. The empty KeyType means the same.
	Any KeyType = "any"
	// ECDSA offers only ECDHE_ECDSA cipher suites, with TLS 1.2. crypto/tls cannot restrict signature algorithms, and TLS 1.3 suites do not
	// name one.
	ECDSA KeyType = "ecdsa"
	// RSA offers only ECDHE_RSA cipher suites, with TLS 1.2.
	RSA KeyType = "rsa"
)

func (k KeyType) upper() string { return strings.ToUpper(string(k)) }

// Request is one handshake to make. Only Address is needed.
type Request struct {
	Address    string // host:port
	ServerName string // sent as SNI (RFC 6066), unless it is empty or an IP address
	KeyType    KeyType
	Protocol   Protocol // what the port speaks; by default the usual protocol of its number, see ProtocolOf
	HELO       string   // the name in EHLO; by default this host's full name, otherwise the connection's own address literal
	// Dialer connects to the server; by default the system's way to connect is used.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// BannerTimeout limits the wait for the greeting, which many servers delay on purpose. The default is 60 s.
	BannerTimeout time.Duration
	// StepTimeout limits every other step, from the first byte sent to the last byte received. The default is 30 s.
	StepTimeout time.Duration
}

// Result is what a server presented.
type Result struct {
	Chain      []*x509.Certificate // as sent; never empty; a correct server sends the leaf first
	Version    uint16              // tls.VersionTLS12 …
	Cipher     uint16              // tls.CipherSuiteName names it
	Extensions []string            // what EHLO offered under TLS, upper case, with parameters
	Findings   []finding.Finding   // oddities of the conversation that are not failures
	Elapsed    time.Duration       // for everything but QUIT
}

// Offers reports whether EHLO under TLS named the extension, e.g. "REQUIRETLS" (RFC 8689).
func (r *Result) Offers(extension string) bool { return offers(r.Extensions, extension) }

// Handshake asks one port for its certificate. It returns within the timeouts of r, and immediately if ctx ends.
//
// The error is always an [*Error]. If TLS was established and only the conversation after it failed, Handshake returns the Result as well
// as the error, because the Result holds what the server presented.
func Handshake(ctx context.Context, r Request) (*Result, error) {
	r = r.withDefaults()
	s := &session{request: r, result: &Result{}}
	switch {
	case strings.ContainsAny(r.HELO, "\r\n\x00 "):
		return nil, s.fail(StepConnect, kindInvalidRequest, "the EHLO name %s contains a space or a line break", quoted(r.HELO))
	case r.KeyType != Any && r.KeyType != ECDSA && r.KeyType != RSA:
		return nil, s.fail(StepConnect, kindInvalidRequest, "the key type %s is not one of any, ecdsa, rsa", quoted(string(r.KeyType)))
	}
	start := time.Now()
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	conn := s.conn
	defer conn.Close()
	// This closes the connection. A deadline in the past would not do, because the next step would overwrite it.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := s.talk(ctx)
	s.result.Elapsed = time.Since(start)
	s.leave()
	if len(s.result.Chain) == 0 {
		return nil, err
	}
	return s.result, err
}

func (r Request) withDefaults() Request {
	if r.KeyType == "" {
		r.KeyType = Any
	}
	if r.Protocol == "" {
		r.Protocol = ProtocolOf(r.Address)
	}
	if r.Dialer == nil {
		r.Dialer = (&net.Dialer{}).DialContext
	}
	if r.BannerTimeout <= 0 {
		r.BannerTimeout = 60 * time.Second
	}
	if r.StepTimeout <= 0 {
		r.StepTimeout = 30 * time.Second
	}
	return r
}

// session is one conversation.
type session struct {
	request Request
	result  *Result
	conn    net.Conn // plain, later TLS
	in      *bufio.Reader
	ctx     context.Context //nolint:containedctx // a session exists only within one call
	polite  bool            // the server waits for a command, so QUIT is allowed
}

func (s *session) connect(ctx context.Context) error {
	s.ctx = ctx
	dial, cancel := context.WithTimeout(ctx, s.request.StepTimeout)
	defer cancel()
	conn, err := s.request.Dialer(dial, "tcp", s.request.Address)
	if err != nil {
		return s.ioError(StepConnect, err)
	}
	s.use(conn)
	return nil
}

// use makes conn the connection to read from. It drops everything in the buffer of the previous connection.
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.in = bufio.NewReaderSize(conn, maxLine)
}

func (s *session) talkSMTP(ctx context.Context) error {
	if err := s.greeting(); err != nil {
		return err
	}
	extensions, err := s.ehlo(StepEHLO)
	if err != nil {
		return err
	}
	if !offers(extensions, "STARTTLS") {
		return s.fail(StepEHLO, KindSTARTTLSNotSupported, "the server does not offer STARTTLS")
	}
	if err := s.startTLS(); err != nil {
		return err
	}
	if err := s.handshake(ctx); err != nil {
		return err
	}
	s.result.Extensions, err = s.ehlo(StepEHLOAfterTLS)
	if err != nil {
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
		return s.rejected(StepGreeting, kindRejected, r)
	}
	return nil
}

// ehlo returns the extensions that the server offers, without the greeting line.
func (s *session) ehlo(step string) ([]string, error) {
	r, err := s.exchange(step, "EHLO "+s.helo(), s.request.StepTimeout)
	switch {
	case err != nil:
		return nil, err
	case r.code == 250:
		return r.extensions(), nil
	case (r.code == 500 || r.code == 502) && step == StepEHLO: // a server without EHLO has no STARTTLS
		return nil, s.rejected(step, KindSTARTTLSNotSupported, r)
	}
	return nil, s.rejected(step, kindRejected, r)
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
		return s.rejected(StepSTARTTLS, kindRejected, r)
	}
	s.polite = false
	return s.nothingBuffered()
}

// nothingBuffered refuses bytes in clear text after the reply to STARTTLS.
func (s *session) nothingBuffered() error {
	if n := s.in.Buffered(); n > 0 {
		text, _ := s.in.Peek(n)
		return s.fail(StepSTARTTLS, kindInjection, "%d bytes in clear text follow the reply to STARTTLS: %s", n, literal(text))
	}
	return nil
}

func (s *session) handshake(ctx context.Context) error {
	if err := s.conn.SetDeadline(time.Now().Add(s.request.StepTimeout)); err != nil {
		return s.ioError(StepTLS, err)
	}
	client := tls.Client(s.conn, s.tlsConfig())
	if err := client.HandshakeContext(ctx); err != nil {
		return s.ioError(StepTLS, err)
	}
	state := client.ConnectionState()
	s.result.Chain, s.result.Version, s.result.Cipher = state.PeerCertificates, state.Version, state.CipherSuite
	s.use(client)
	s.polite = true
	return nil
}

// tlsConfig verifies nothing on purpose: an opportunistic sender does not verify either, and CheckChain judges the chain.
func (s *session) tlsConfig() *tls.Config {
	config := &tls.Config{
		ServerName:         s.request.ServerName,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		// Mail servers offer these curves. A post-quantum key share would make the ClientHello larger than one segment, and some
		// middleboxes in front of port 25 cannot handle that.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521},
	}
	if s.request.KeyType == Any {
		return config
	}
	config.MaxVersion = tls.VersionTLS12
	prefix := "TLS_ECDHE_" + s.request.KeyType.upper() + "_"
	for _, suite := range tls.CipherSuites() {
		if strings.HasPrefix(suite.Name, prefix) {
			config.CipherSuites = append(config.CipherSuites, suite.ID)
		}
	}
	return config
}

// exchange sends one command, if it is not empty, and reads the whole reply. Both must end within timeout.
func (s *session) exchange(step, command string, timeout time.Duration) (reply, error) {
	s.polite = false
	if err := s.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return reply{}, s.ioError(step, err)
	}
	if command != "" {
		if _, err := fmt.Fprintf(s.conn, "%s\r\n", command); err != nil {
			return reply{}, s.ioError(step, err)
		}
	}
	r, err := readReply(s.in)
	if err != nil {
		return reply{}, s.ioError(step, err)
	}
	s.polite = r.code != 421 // RFC 5321 section 3.8: the server closes after 421
	return r, nil
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

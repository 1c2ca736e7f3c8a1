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
// crypto/tls and crypto/x509 cannot speak or read all that senders with OpenSSL or GnuTLS do. If a handshake fails for such a reason, the
// error has the kind [KindNotJudged], and its hint is the command that shows what OpenSSL sees.
//
// Not supported: LMTP, ManageSieve, SSL 3, client certificates, revocation (it returns the OCSP response, and does not read it), and names that are not ASCII (use the
// A-label).
package starttls

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
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
	// TLS13 offers only TLS 1.3, and accepts what the server prefers.
	TLS13 KeyType = "tls13"
	// OldTLS offers only TLS 1.0 and 1.1, which many senders refuse (RFC 8996). It finds servers that have nothing newer.
	OldTLS KeyType = "old-tls"
	// Everything offers all that modern senders with OpenSSL and GnuTLS can do, and ends with the server's first answer, always with an error:
	// [KindNotJudged] if the server would go on with such senders. It is for servers that refuse [Any].
	Everything KeyType = "everything"
	// Everything12 is the same for senders without TLS 1.3 and without named finite field groups (RFC 7919). Some servers want such senders.
	Everything12 KeyType = "everything-tls12"
)

// words returns what is special about the key type, "" for [Any].
func (k KeyType) words() string {
	switch k {
	case ECDSA, RSA:
		return strings.ToUpper(string(k)) + " key"
	case TLS13:
		return "TLS 1.3"
	case OldTLS:
		return "TLS 1.0 and 1.1"
	case Everything:
		return "all that senders offer"
	case Everything12:
		return "all that senders offer with TLS 1.2"
	}
	return ""
}

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
	Greeting   string              // the first line of the greeting that has a text, without the code
	PlainEHLO  string              // the name that the server gave itself in its reply to EHLO before TLS
	Plain      []string            // what EHLO offered before TLS, like Extensions
	Extensions []string            // what EHLO offered under TLS, upper case, with parameters
	EHLO       string              // the name that the server gave itself in its reply to EHLO under TLS
	Staple     []byte              // the OCSP response that came with the certificate (RFC 6066 section 8), DER, not checked; empty if none did
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
	case r.KeyType != Any && r.KeyType.words() == "":
		return nil, s.fail(StepConnect, kindInvalidRequest, "the key type %s is not one of any, ecdsa, rsa, tls13, old-tls, everything, everything-tls12", quoted(string(r.KeyType)))
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

func (s *session) handshake(ctx context.Context) error {
	if s.request.KeyType == Everything || s.request.KeyType == Everything12 {
		return s.everything()
	}
	if err := s.conn.SetDeadline(time.Now().Add(s.request.StepTimeout)); err != nil {
		return s.ioError(StepTLS, err)
	}
	client := tls.Client(s.conn, s.tlsConfig())
	if err := client.HandshakeContext(ctx); err != nil {
		return s.ioError(StepTLS, err)
	}
	state := client.ConnectionState()
	s.result.Chain, s.result.Version, s.result.Cipher = state.PeerCertificates, state.Version, state.CipherSuite
	s.result.Staple = state.OCSPResponse
	s.use(client)
	s.polite = true
	return nil
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

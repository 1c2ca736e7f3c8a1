package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

const (
	// relayTime limits one conversation with a relay.
	relayTime = 60 * time.Second
	// goodbye is how long the relay has for its last word.
	goodbye = 5 * time.Second
	// mostReplies limits what a relay may say in one conversation, in bytes.
	mostReplies = 256 << 10
	// implicitTLS is the port on which TLS comes before the first word (RFC 8314).
	implicitTLS = "465"
)

// Relay is a mail server that takes mail by SMTP. The connection is encrypted and its certificate is checked. Only a relay at a loopback
// address needs neither: what goes there stays on this host, and its certificate, which has another name, may be what mxcert reports.
type Relay struct {
	Address  string // host:port
	User     string // "" if it wants no login
	Password Secret // nil without User
	CAFile   string // path of a PEM file with the roots to trust, which is read for each message; "": those of the system
}

// conversation is one connection to a relay.
type conversation struct {
	relay  *Relay
	client *smtp.Client
	secret string
	roots  *x509.CertPool // nil: the system's
}

// open connects, encrypts and logs in. The caller ends the conversation, also after an error. It ends with QUIT, because relays count clients
// that hang up among those that attack them.
func (r *Relay) open(ctx context.Context) (c *conversation, end func(), err error) {
	c = &conversation{relay: r}
	if r.User != "" {
		if c.secret, err = r.Password(); err != nil {
			return c, func() {}, err
		}
	}
	if c.roots, err = rootsIn(r.CAFile); err != nil {
		return c, func() {}, err
	}
	host, port, err := net.SplitHostPort(r.Address)
	if err != nil {
		return c, func() {}, &Error{message: "the relay's address is not host:port", kind: Setting, hint: "write for example smtp: relay.example:587"}
	}
	plain, err := (&net.Dialer{Timeout: 15 * time.Second}).DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return c, func() {}, c.unreachable(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() })
	end = func() {
		if c.client != nil {
			_ = plain.SetDeadline(time.Now().Add(goodbye))
			_ = c.client.Quit()
		}
		stop()
		_ = plain.Close()
	}
	return c, end, c.begin(plain, host, port, isLoopback(host))
}

// begin greets, encrypts and logs in. local says that the relay is on this host.
func (c *conversation) begin(conn net.Conn, host, port string, local bool) (err error) {
	conn = &cappedConn{Conn: conn, left: mostReplies}
	config := &tls.Config{ServerName: host, RootCAs: c.roots, MinVersion: tls.VersionTLS12, InsecureSkipVerify: local} //nolint:gosec // see Relay
	if port == implicitTLS {
		conn = tls.Client(conn, config)
	}
	if c.client, err = smtp.NewClient(conn, host); err != nil {
		return c.said("greets with an error", err)
	}
	name, _ := os.Hostname() // without one, its address will do
	if err := c.client.Hello(greeting(name, conn.LocalAddr())); err != nil {
		return c.said("greets with an error", err)
	}
	c.client.SkipSMTPUTF8(true) // the mail is ASCII: a relay must not demand more of the next one
	if err := c.encrypt(port, local, config); err != nil {
		return err
	}
	return c.login(local)
}

// greeting is how this host calls itself: by its full name or, as RFC 5321 section 4.1.4 has it for a host without one, by its address. Many
// relays take no short name.
func greeting(name string, local net.Addr) string {
	if name = domainOf(name); strings.Contains(name, ".") {
		return name
	}
	address, ok := local.(*net.TCPAddr)
	switch {
	case !ok:
		return name
	case address.IP.To4() != nil:
		return "[" + address.IP.String() + "]"
	}
	return "[IPv6:" + address.IP.String() + "]" // without its zone
}

// encrypt starts TLS, unless it has begun with the connection. At a loopback address it does so only if the login needs it.
func (c *conversation) encrypt(port string, local bool, config *tls.Config) error {
	offered, _ := c.client.Extension("STARTTLS")
	login, _ := c.client.Extension("AUTH")
	switch {
	case port == implicitTLS, local && (c.relay.User == "" || login || !offered):
		return nil
	case !offered && !local:
		return &Error{message: fmt.Sprintf("the relay %s does not offer STARTTLS, so mxcert sends it nothing", c.relay.Address), kind: Encryption,
			hint: "use its port for submission (587, or 465), or another relay"}
	}
	if err := c.client.StartTLS(config); err != nil {
		return c.said("does not start TLS", err)
	}
	return nil
}

// login uses the strongest method that both know.
func (c *conversation) login(local bool) error {
	user, host := c.relay.User, hostOf(c.relay.Address)
	if user == "" {
		return nil
	}
	_, offer := c.client.Extension("AUTH")
	known := strings.Fields(strings.ToUpper(offer))
	_, err := c.client.GetTLSConnectionState()
	encrypted := err == nil
	var auth smtp.Auth
	switch has := func(method string) bool { return slices.Contains(known, method) }; {
	case has("SCRAM-SHA-256"):
		auth = smtp.ScramSHA256Auth(user, c.secret)
	case has("PLAIN") && (encrypted || local):
		auth = smtp.PlainAuth("", user, c.secret, host, !encrypted)
	case has("LOGIN") && (encrypted || local):
		auth = smtp.LoginAuth(user, c.secret, host, !encrypted)
	case has("CRAM-MD5"):
		auth = smtp.CRAMMD5Auth(user, c.secret)
	default:
		return &Error{message: fmt.Sprintf("the relay %s offers no login that mxcert knows (it offers %s)", c.relay.Address, cmp.Or(without(offer), "none")), kind: Login,
			hint: "use its port for submission (587, or 465); without a login there, remove user and password"}
	}
	if err := c.client.Auth(auth); err != nil {
		e := c.said("does not accept the login of "+user, err)
		if !e.temporary {
			e.kind, e.hint = Login, "are user and password right? Store the password as the secret that the setting names"
		}
		return e
	}
	return nil
}

// send sends a mail. A recipient that the relay refuses does not keep it from the others.
func (r *Relay) send(ctx context.Context, from string, to []string, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, relayTime)
	defer cancel()
	c, end, err := r.open(ctx)
	defer end()
	if err != nil {
		return err
	}
	if err := c.client.Mail("<" + from + ">"); err != nil {
		return c.said("does not take mail from "+from, err)
	}
	var refused []*Error
	for _, address := range to {
		if err := c.client.Rcpt("<" + address + ">"); err != nil {
			refused = append(refused, c.said("does not take mail for "+address, err))
		}
	}
	if len(refused) == len(to) {
		return refused[0]
	}
	data, err := c.client.Data()
	if err != nil {
		return c.said("does not take the mail", err)
	}
	if _, err := data.Write(text); err != nil {
		return c.said("does not take the mail", err)
	}
	if err := data.Close(); err != nil {
		return c.said("does not take the mail", err)
	}
	if len(refused) > 0 {
		refused[0].temporary, refused[0].partly = false, true
		refused[0].message += fmt.Sprintf("; it has taken it for %d of %d", len(to)-len(refused), len(to))
		return refused[0]
	}
	return nil
}

// probe tests the password, the roots and, if online is set, the relay up to the login.
func (r *Relay) probe(ctx context.Context, online bool) error {
	if !online {
		if err := CheckRoots(r.CAFile); err != nil {
			return err
		}
		if r.User != "" {
			_, err := r.Password()
			return err
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, relayTime)
	defer cancel()
	_, end, err := r.open(ctx)
	end()
	return err
}

// secrets lists what a relay may repeat: the password, and what PLAIN and LOGIN make of it.
func (c *conversation) secrets() []string {
	if c.secret == "" {
		return nil
	}
	encode := base64.StdEncoding.EncodeToString
	return []string{encode([]byte("\x00" + c.relay.User + "\x00" + c.secret)), encode([]byte(c.secret)), c.secret}
}

// said explains an error of the conversation: an answer of the relay, or none.
func (c *conversation) said(what string, err error) *Error {
	answer, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return c.unreachable(err)
	}
	e := &Error{message: fmt.Sprintf("the relay %s %s: \"%d %s\"", c.relay.Address, what, answer.Code, without(answer.Msg, c.secrets()...)), kind: Refused, temporary: answer.Code/100 == 4,
		hint: "may this host send mail through the relay, with these addresses?"}
	if e.temporary {
		e.hint = "the relay takes it later; otherwise look at its log"
	}
	return e
}

// unreachable explains why there is no answer, or why its certificate is not accepted.
func (c *conversation) unreachable(err error) *Error {
	address := c.relay.Address
	if e := untrusted(err, "the relay "+address, "mail.via.ca_file", c.secrets()...); e != nil {
		return e
	}
	reason := reasonOf(err, c.secrets()...)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		reason = "it has closed the connection, or has not answered in time"
	}
	hint := "is the port right, and does this host reach it? nc -vz " + strings.ReplaceAll(address, ":", " ")
	if strings.HasSuffix(address, ":25") {
		hint = "many networks block port 25 outward; use the relay's port for submission (587 or 465)"
	}
	return &Error{message: fmt.Sprintf("the relay %s does not answer: %s", address, reason), kind: Unreachable, temporary: true, cause: contextOf(err), hint: hint}
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// cappedConn ends a connection whose other side says too much: a line without an end would be kept in memory.
type cappedConn struct {
	net.Conn

	left int
}

func (c *cappedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("it says more than a relay has to say")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

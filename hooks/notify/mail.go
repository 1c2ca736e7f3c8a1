package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/mail"
	"os"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Mail says how a channel sends mail.
type Mail struct {
	To   []string // addresses
	From string   // an address; "" is mxcert at the host of the message
	// Relay takes the mail by SMTP. If it is nil, the program Sendmail takes it.
	Relay    *Relay
	Sendmail string // path of the program; "" is /usr/sbin/sendmail
}

// mailer sends messages by mail.
type mailer struct {
	name string
	Mail
}

// NewMail returns a channel that sends mail.
func NewMail(name string, m Mail) Channel {
	m.Sendmail = cmp.Or(m.Sendmail, sendmailPath)
	return &mailer{name: name, Mail: m}
}

func (m *mailer) Name() string { return m.name }

// Send hands one mail for all recipients to the relay, or to sendmail.
func (m *mailer) Send(ctx context.Context, message Message) error {
	text, from, err := m.compose(message.Clean())
	if err != nil {
		return err
	}
	if m.Relay != nil {
		return m.Relay.send(ctx, from, m.To, text)
	}
	return m.bySendmail(ctx, text)
}

// Probe tests what sending needs. If online is set, it connects to the relay and logs in.
func (m *mailer) Probe(ctx context.Context, online bool) error {
	if m.Relay != nil {
		return m.Relay.probe(ctx, online)
	}
	return CheckProgram(m.Sendmail)
}

// compose writes the mail: a text in UTF-8, encoded so that no line is too long (RFC 2045) and no text becomes a header.
func (m *mailer) compose(message Message) (text []byte, from string, err error) {
	from = cmp.Or(m.From, "mxcert@"+domainOf(message.Host))
	out := gomail.NewMsg(gomail.WithEncoding(gomail.EncodingQP), gomail.WithNoDefaultUserAgent())
	out.FromMailAddress(&mail.Address{Name: "mxcert", Address: from})
	var to []*mail.Address
	for _, address := range m.To {
		to = append(to, &mail.Address{Address: address})
	}
	out.ToMailAddress(to...)
	out.Subject(message.Subject)
	at := message.At
	if at.IsZero() {
		at = time.Now()
	}
	out.SetDateWithValue(at)
	id, parents := m.thread(message)
	out.SetMessageIDWithValue(strings.Trim(id, "<>")) // adds the brackets
	if len(parents) > 0 {
		out.SetGenHeaderPreformatted(gomail.HeaderReferences, strings.Join(parents, "\r\n "))
		if message.Event != Alarm {
			out.SetGenHeaderPreformatted(gomail.HeaderInReplyTo, parents[len(parents)-1])
		}
	}
	out.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 section 5: no vacation program answers it
	out.SetBulk()                                        // for programs that know only Precedence
	if message.severe() && message.Event != Recovered {
		out.SetImportance(gomail.ImportanceHigh)
	}
	out.SetBodyString(gomail.TypeTextPlain, bodyText(message))
	var b bytes.Buffer
	if _, err := out.WriteTo(&b); err != nil {
		return nil, "", &Error{message: "the mail cannot be written: " + without(err.Error()), kind: Setting, hint: "are the addresses in mail.to and mail.from right?"}
	}
	return b.Bytes(), from, nil
}

// bodyText ends with a line break, and is not empty.
func bodyText(m Message) string {
	return strings.TrimRight(cmp.Or(m.Text, m.Subject), "\n") + "\n"
}

// mostParents limits References, which mail servers cut if it is too long.
const mostParents = 10

// thread returns the Message-ID of a message, and those that it refers to, so that mail programs show what belongs together: an alarm, its
// reminders, and its end. Each matter has an ID of its own, which nothing but the matter and its beginning determine. An alarm has the ID of
// its first matter. So the same message, sent again after a failure, has the same ID, and servers drop the second one.
func (m *mailer) thread(message Message) (id string, parents []string) {
	domain := domainOf(message.Host)
	name := func(parts ...string) string {
		sum := sha256.Sum256([]byte(strings.Join(append([]string{m.name, message.Host}, parts...), "\x00")))
		return "<mxcert." + hex.EncodeToString(sum[:12]) + "@" + domain + ">"
	}
	for _, matter := range message.Matters[:min(len(message.Matters), mostParents)] {
		parents = append(parents, name("matter", matter.ID, matter.Since.UTC().Format(time.RFC3339)))
	}
	if message.Event == Alarm && len(parents) > 0 {
		return parents[0], parents[1:]
	}
	for i, j := 0, len(parents)-1; i < j; i, j = i+1, j-1 { // the last is the direct parent (RFC 5322 section 3.6.4): the worst matter
		parents[i], parents[j] = parents[j], parents[i]
	}
	return name(string(message.Event), message.Subject, message.At.UTC().Format(time.RFC3339Nano), fmt.Sprint(parents)), parents
}

// domainOf returns a host name as the domain of an address: only characters of host names, and never empty.
func domainOf(host string) string {
	if host == "" {
		host, _ = os.Hostname()
	}
	host = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return -1
	}, host), ".-")
	return cmp.Or(host, "localhost")
}

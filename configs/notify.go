package configs

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// The kinds of a channel.
const (
	channelMail    = "mail"
	channelWebhook = "webhook"
	channelExec    = "exec"
	channelPing    = "ping"
)

func channelKinds() []string { return []string{channelMail, channelWebhook, channelExec, channelPing} }

// viaSendmail is the word for the program of this host's mail server.
const viaSendmail = "sendmail"

// bodies are the words for the body of a webhook.
func bodies() []string { return []string{"json", "slack", "ntfy", "matrix"} }

const (
	// mostChannels limits the channels, because each is a goroutine while a message is sent.
	mostChannels = 32
	// mostRecipients limits the addresses of a channel.
	mostRecipients = 50
	// shortRepeat is where reminders begin to be a nuisance.
	shortRepeat = 10 * time.Minute
)

// channel decodes an element of notify. Its kind is the key that says how people are told.
func (l *loader) channel(n *yaml.Node, path string, to *Channel) {
	if n.Kind != yaml.MappingNode {
		l.wrongType(n, path, "must be a section with a name and one of mail, webhook, exec and ping")
		return
	}
	var kinds []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; slices.Contains(channelKinds(), key) && !slices.Contains(kinds, key) {
			kinds = append(kinds, key)
			l.channelValue(key, n.Content[i+1], join(path, key))
		}
	}
	to.Repeat = 24 * time.Hour
	l.mapping(n, path, reflect.ValueOf(to).Elem())
	switch {
	case len(kinds) > 1:
		l.bad(path, "start a second channel with its own -", "has %s, but a channel is one of them", strings.Join(kinds, " and "))
	case len(kinds) == 1:
		to.Kind = kinds[0]
	case !l.unknown[path]:
		l.bad(path, "add one of mail, webhook, exec and ping", "does not say how people are told")
	}
}

// channelValue hides what may be a secret in the value of a kind, and explains one that lacks its section.
func (l *loader) channelValue(kind string, value *yaml.Node, path string) {
	if kind == channelWebhook || kind == channelPing {
		l.hideValue(value)
		l.hideAll(value, "body", "ca_file")
		for i := 1; value.Kind == yaml.MappingNode && i < len(value.Content); i += 2 {
			if strings.Contains(value.Content[i].Value, "://") { // the URL under a wrong key
				l.hideValue(value.Content[i])
			}
		}
	}
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return
	}
	switch kind {
	case channelMail:
		l.faultAt(value, path, path+": must be a section with keys, not text", "write mail: {to: ADDRESS}")
	case channelWebhook:
		l.faultAt(value, path, path+": must be a section with keys, not text", `write webhook: {url: "cred:chat-url"}, and put the URL into `+credentials+"/chat-url")
	}
}

// via decodes the word sendmail, or the section of a relay.
func (l *loader) via(n *yaml.Node, path string, to *Via) {
	const section = `{smtp: "relay.example:587", user: NAME, password: "cred:relay"}`
	switch {
	case n.Kind == yaml.MappingNode:
		l.hideAll(n, "smtp", "user", "ca_file")
		l.mapping(n, path, reflect.ValueOf(to).Elem())
		if to.SMTP == "" && !l.touched[path] && !l.unknown[path] && len(n.Content) > 0 {
			l.missing(join(path, "smtp"), "write the relay's host and port, or via: sendmail")
		}
	case n.Kind != yaml.ScalarNode || n.Tag != "!!str":
		l.wrongType(n, path, "must be sendmail, or a section such as "+section)
	case n.Value == viaSendmail || n.Value == "":
	case n.Value == "smtp" || strings.Contains(n.Value, ".") && !strings.Contains(n.Value, "/"):
		l.bad(path, "write via: "+section, "%s needs a section", quote(n.Value))
	case strings.Contains(n.Value, "/"):
		l.bad(path, "write via: sendmail, or via: "+section, "is a word or a section, not a path")
	default:
		l.bad(path, cmp.Or(suggest(n.Value, []string{viaSendmail}), "write via: sendmail, or via: "+section), "%s is not a way to send mail", quote(n.Value))
	}
}

// checkChannels checks the channels of notify, and completes them.
func (l *loader) checkChannels(list []Channel) {
	if len(list) > mostChannels {
		l.bad("notify", "one channel can have many recipients", "%d channels; at most %d are possible", len(list), mostChannels)
		return
	}
	first := map[string]string{}
	for i := range list {
		c, p := &list[i], at("notify", i)
		other, twice := first[c.Name]
		switch {
		case c.Name == "":
			l.missing(join(p, "name"), "give it a short name, for messages and metrics, such as name: desk")
		case !isName(c.Name):
			l.bad(join(p, "name"), "use at most 64 lower-case letters, digits, dots, hyphens and underscores", "%s cannot be the name of a channel", quote(c.Name))
		case twice:
			l.bad(join(p, "name"), "give each channel a name of its own", "%s is already the name of another channel (%s)", quote(c.Name), l.index.position(other))
		default:
			first[c.Name] = join(p, "name")
		}
		l.checkChannel(p, c)
	}
}

func (l *loader) checkChannel(p string, c *Channel) {
	repeat := join(p, "repeat")
	_, written := l.index.places[repeat]
	switch {
	case c.Kind == channelPing && written:
		l.warn(repeat, "remove it", "has no effect: a dead man's switch gets a request after each round of passes, and repeats by itself what it tells")
	case c.Repeat > 0 && c.Repeat < shortRepeat:
		l.warn(repeat, "write for example 24h", "people get the same message again every %s", shortDuration(c.Repeat))
	}
	switch c.Kind {
	case channelMail:
		l.checkMail(join(p, channelMail), &c.Mail)
	case channelWebhook:
		l.checkHook(join(p, "webhook.url"), c.Webhook.URL, "chat-url")
		l.checkBody(join(p, "webhook.body"), c.Webhook.Body)
		l.checkPath(join(p, "webhook.ca_file"), c.Webhook.CAFile)
	case channelExec:
		if c.Exec == "" {
			l.missing(join(p, channelExec), "write the path of a program, such as /usr/local/sbin/page")
		} else if fields := strings.Fields(c.Exec); path.IsAbs(c.Exec) && len(fields) > 1 && strings.HasPrefix(fields[1], "-") {
			l.bad(join(p, channelExec), "write a script with the command, and name the script", "%s has arguments; a program gets none", quote(c.Exec))
		}
		l.checkPath(join(p, channelExec), c.Exec)
	case channelPing:
		l.checkHook(join(p, channelPing), c.Ping, "ping-url")
	}
}

func (l *loader) checkMail(p string, m *Mail) {
	to := join(p, "to")
	if len(m.To) == 0 {
		l.missing(to, "write the address of whoever is to know, best at another mail server")
	}
	if len(m.To) > mostRecipients {
		l.bad(to, "write the address of a list", "%d addresses; a channel has at most %d", len(m.To), mostRecipients)
		return
	}
	for i, address := range m.To {
		where := at(to, i)
		if _, inList := l.index.places[where]; !inList {
			where = to
		}
		m.To[i] = l.address(where, address)
	}
	l.unique(to, m.To)
	if m.From != "" {
		m.From = l.address(join(p, "from"), m.From)
	}
	l.checkVia(join(p, "via"), &m.Via)
}

// address checks and normalises an address.
func (l *loader) address(p, s string) string {
	address, err := recipient(s)
	if err != nil {
		l.bad(p, "write one address, such as ops@elsewhere.example", "%s: %v", quote(s), err)
		return s
	}
	return address
}

// recipient normalises a bare mail address (RFC 5321) with a domain as A-labels.
func recipient(s string) (string, error) {
	local, domain, found := cutLast(s)
	switch {
	case strings.HasPrefix(s, "mailto:"):
		return "", errors.New("this is a link; leave mailto: out")
	case strings.ContainsAny(s, ",;"):
		return "", errors.New("this is more than one address; write a list: [one@elsewhere.example, two@elsewhere.example]")
	case !found || local == "":
		return "", errors.New("this is not a mail address; also a mailbox of this host needs its domain")
	case strings.ContainsFunc(local, func(r rune) bool { return r > '~' }):
		return "", errors.New("only ASCII characters are possible before the @, because not every relay takes others")
	}
	name := strings.ToLower(domain)
	if name != "localhost" {
		var err error
		if name, err = domainName(domain); err != nil {
			return "", fmt.Errorf("its domain is wrong: %v", err)
		}
	}
	a, err := mail.ParseAddress(local + "@" + name)
	if err != nil || a.Name != "" || a.Address != local+"@"+name || strings.HasPrefix(local, "-") {
		return "", errors.New("this is not a mail address")
	}
	return a.Address, nil
}

func (l *loader) checkVia(p string, v *Via) {
	if v.SMTP == "" {
		return // a section without smtp has its fault already
	}
	address, err := relayAddress(v.SMTP)
	if err != nil {
		l.bad(join(p, "smtp"), `write host and port, such as "relay.example:587"`, "%s: %v", quote(v.SMTP), err)
	} else {
		v.SMTP = address
	}
	switch {
	case v.User == "" && v.Password != "":
		l.missing(join(p, "user"), "a login needs both user and password")
	case v.User != "" && v.Password == "":
		l.missing(join(p, "password"), "a login needs both: write password: cred:NAME, and put the value into "+credentials+"/NAME")
	case strings.ContainsFunc(v.User, func(r rune) bool { return r < ' ' || r == 0x7f }):
		l.bad(join(p, "user"), "remove it", "%s contains a control character", quote(v.User))
	}
	l.checkSecret(join(p, "password"), v.Password, variable{})
	l.checkPath(join(p, "ca_file"), v.CAFile)
	if host, _, err := net.SplitHostPort(v.SMTP); v.CAFile != "" && err == nil && isLoopback(host) {
		l.warn(join(p, "ca_file"), "remove it", "has no effect: mxcert does not check the certificate of a relay on this host")
	}
}

// relayAddress returns host:port.
func relayAddress(s string) (string, error) {
	if strings.Contains(s, "://") {
		return "", errors.New("this is a URL; write the host and the port alone")
	}
	if strings.Contains(s, "@") {
		return "", errors.New("this is an address of mail; user has a line of its own")
	}
	host, port := strings.Trim(s, "[]"), "587"
	if !isAddress(s) {
		if h, p, err := net.SplitHostPort(s); err == nil {
			host, port = h, p
		} else if strings.Contains(s, ":") {
			return "", errors.New("this is not host:port; an IPv6 address needs brackets")
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("%s is not a port; common ones are 587 and 465", quote(port))
	}
	if host != "localhost" && !isAddress(host) {
		name, err := domainName(host)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(name, "*") {
			return "", errors.New("a wildcard is not a host")
		}
		host = name
	}
	return net.JoinHostPort(host, port), nil
}

// checkHook checks a URL that is a secret. If it stands in the file, its form is checked, too.
func (l *loader) checkHook(p string, s Secret, example string) {
	if s == "" {
		l.missing(p, "such a URL is a password: write cred:"+example+", and put the URL into "+credentials+"/"+example)
		return
	}
	l.checkSecret(p, s, variable{})
	if isReference(string(s)) || string(s) == hidden {
		return
	}
	u, err := url.Parse(string(s))
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		l.bad(p, "such a URL is a password: write cred:"+example+", and put the URL into "+credentials+"/"+example, "is neither a URL nor a reference to one")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		l.bad(p, "write https://; plain http is accepted for a server on this host only", "plain http would show the URL, which is a password, to the network")
	}
}

// checkBody checks the body of a webhook: a word, or the path of a template.
func (l *loader) checkBody(p, body string) {
	switch {
	case slices.Contains(bodies(), body):
	case path.IsAbs(body):
		l.checkPath(p, body)
	case strings.Contains(body, "://"):
		l.bad(p, "write it as url; body names what is sent to it", "is a URL")
	case strings.Contains(body, "{"):
		l.bad(p, "put it into a file, and write the path of the file", "%s is a template itself; mxcert reads one from a file", quote(body))
	case strings.ContainsAny(body, "/."):
		l.bad(p, "write a path that begins with /", "%s is not the absolute path of a template", quote(body))
	default:
		l.bad(p, cmp.Or(suggest(body, bodies()), "known: "+strings.Join(bodies(), ", ")+", or the absolute path of a template"), "%s is not a body that mxcert knows", quote(body))
	}
}

// encodeChannel writes a channel as it was read.
func (e encoder) encodeChannel(c Channel) *yaml.Node {
	n := mappingOf(plain("name"), text(c.Name))
	add := func(key string, value *yaml.Node) { n.Content = append(n.Content, plain(key), value) }
	switch c.Kind {
	case channelMail:
		add(c.Kind, e.encodeStruct(reflect.ValueOf(c.Mail)))
	case channelWebhook:
		add(c.Kind, e.encodeStruct(reflect.ValueOf(c.Webhook)))
	case channelExec:
		add(c.Kind, text(c.Exec))
	case channelPing:
		add(c.Kind, text(c.Ping.String()))
		return n // it has no reminders
	}
	add("repeat", plain(shortDuration(c.Repeat)))
	return n
}

// encodeVia writes how mail is sent as it was read.
func (e encoder) encodeVia(v Via) *yaml.Node {
	if v.SMTP == "" {
		return plain(viaSendmail)
	}
	n := mappingOf(plain("smtp"), text(v.SMTP))
	if v.User != "" {
		n.Content = append(n.Content, plain("user"), text(v.User), plain("password"), text(v.Password.String()))
	}
	if v.CAFile != "" {
		n.Content = append(n.Content, plain("ca_file"), text(v.CAFile))
	}
	return n
}

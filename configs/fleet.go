package configs

import (
	"cmp"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// etcdPort is where etcd listens for clients.
	etcdPort = "2379"
	// mostEndpoints bounds the members that a host asks. A cluster has seldom more than 7.
	mostEndpoints = 64
	// mostFleetRecipients bounds who can read a key: each one makes every value longer.
	mostFleetRecipients = 2000
	// ageSecret begins a secret of age-keygen, which belongs into no list of recipients.
	ageSecret = "AGE-SECRET-KEY-" //nolint:gosec // not a secret, but how one begins

	shortestForget, shortForget, usualForget, longestForget = time.Hour, 24 * time.Hour, 14 * 24 * time.Hour, 365 * 24 * time.Hour
)

// checkFleet checks the section of the fleet. What the identity is, and whether it is among the recipients, is not known here: it is a secret.
func (l *loader) checkFleet(f *Fleet) {
	l.checkForget(f.Forget)
	if !f.On() || l.own["fleet"] {
		return
	}
	l.checkFleetName(f)
	l.checkFleetHost(f)
	l.checkMembers(f)
	l.checkClient(&f.Etcd)
	if f.Identity == "" {
		l.missing("fleet.identity", `run age-keygen -o `+credentials+`/age, `+credentialAccess+`, and write identity: "cred:age"`)
	}
	l.checkSecret("fleet.identity", f.Identity, variable{})
	l.checkFleetRecipients(f)
}

func (l *loader) checkForget(forget time.Duration) {
	const p = "fleet.forget"
	switch {
	case forget < shortestForget:
		l.bad(p, "write 14d", "%s is too short: a host that restarts would be forgotten", shortDuration(forget))
	case forget > longestForget:
		l.bad(p, "write 14d", "%s is too long: TLSA records would stay for a host that is gone", shortDuration(forget))
	case forget < shortForget:
		l.warn(p, "write 14d", "a host that is away for %s is forgotten, and TLSA records of its keys are removed", shortDuration(forget))
	}
}

func (l *loader) checkFleetName(f *Fleet) {
	switch {
	case f.Name == "":
		l.missing("fleet.name", "all hosts of a fleet write the same name, such as name: berlin")
	case !isLabel(f.Name):
		l.bad("fleet.name", "use at most 63 lower-case letters, digits and hyphens, such as berlin", "%s cannot be the name of a fleet", quote(f.Name))
	}
}

// isLabel reports whether s is one lower-case label of a host name (RFC 1123).
func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && onlyHas(s, lower+digit+"-") && s[0] != '-' && s[len(s)-1] != '-'
}

func (l *loader) checkFleetHost(f *Fleet) {
	const p = "fleet.host"
	if f.Host == "" {
		return
	}
	host, err := asciiName(strings.TrimSuffix(f.Host, "."))
	switch {
	case isAddress(f.Host):
		l.bad(p, "write a name, such as mx1", "%s is an address, not a name", quote(f.Host))
	case err != nil || len(host) > 253:
		l.bad(p, "write one label, such as mx1, or a host name", "%s cannot be the name of a host", quote(f.Host))
	case host == "localhost" || strings.HasPrefix(host, "localhost."):
		l.bad(p, "write a name that no other host of the fleet has, such as mx1", "every host is called %s", host)
	default:
		f.Host = host
	}
}

// checkMembers checks and completes the URLs of the members.
func (l *loader) checkMembers(f *Fleet) {
	const p = "fleet.etcd.endpoints"
	list := f.Etcd.Endpoints
	switch {
	case len(list) == 0:
		l.missing(p, `write the members' URLs: endpoints: ["https://e1.example.org:2379"]`)
		return
	case len(list) > mostEndpoints:
		l.bad(p, "name a few members; mxcert learns nothing from more", "%d members; at most %d are possible", len(list), mostEndpoints)
		return
	}
	first := ""
	for i, endpoint := range list {
		u, ok := l.checkMember(at(p, i), endpoint)
		if !ok {
			continue
		}
		list[i] = u.Scheme + "://" + u.Host
		if first = cmp.Or(first, u.Scheme); u.Scheme != first {
			l.bad(at(p, i), "write all of them with https://", "%s is %s, and another member is %s", quote(endpoint), u.Scheme, first)
		}
	}
	l.unique(p, list)
}

// checkMember checks the URL of one member, and completes it.
func (l *loader) checkMember(p, endpoint string) (*url.URL, bool) {
	const hint = "write for example https://e1.example.org:2379"
	u, err := url.Parse(endpoint)
	switch {
	case strings.Contains(endpoint, "@"):
		l.index.hide(p, endpoint)
		l.bad(p, "remove the part before the @: mxcert shows its client certificate", "the URL contains a user name")
	case err != nil || !strings.Contains(endpoint, "://"):
		l.bad(p, guessEndpoint(endpoint), "%s is not a URL", quote(endpoint))
	case u.Scheme != "https" && u.Scheme != "http":
		l.bad(p, hint, "%s is not a way to reach etcd", quote(u.Scheme))
	case u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		l.bad(p, hint, "%s is more, or less, than the host and port of a member", quote(endpoint))
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		l.bad(p, "write https://, and let etcd ask for client certificates (--client-cert-auth); plain http is accepted at a loopback address only",
			"%s is not encrypted: who listens could write to the store", quote(endpoint))
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		l.bad(p, "write a number from 1 to 65535, such as "+etcdPort, "%s has no port that can be", quote(endpoint))
	default:
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), etcdPort)
		}
		u.Host = strings.ToLower(u.Host)
		return u, true
	}
	return nil, false
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// guessEndpoint says what was meant by a member that is no URL.
func guessEndpoint(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, etcdPort
	}
	if _, err := asciiName(host); (err == nil || isAddress(host)) && isPort(port) {
		return "did you mean " + quote("https://"+net.JoinHostPort(host, port)) + "?"
	}
	return "write for example https://e1.example.org:2379"
}

// checkClient checks what proves to etcd who this host is. By https it is needed: etcd knows a user by the name in the certificate.
func (l *loader) checkClient(e *Etcd) {
	l.checkPath("fleet.etcd.ca_file", e.CAFile)
	l.checkPath("fleet.etcd.certificate", e.Certificate)
	const key = "fleet.etcd.private_key"
	switch {
	case strings.Contains(e.PrivateKey, "PRIVATE KEY"):
		l.index.hide(key, e.PrivateKey)
		l.bad(key, "write it to a file, and its path here, or cred:etcd", "is a key, not the path of one")
	case isReference(e.PrivateKey):
		l.checkSecret(key, Secret(e.PrivateKey), variable{})
	default:
		l.checkPath(key, e.PrivateKey)
	}
	secure := len(e.Endpoints) > 0 && strings.HasPrefix(e.Endpoints[0], "https://")
	const hint = "etcd knows this host by its client certificate: the common name is the user, who needs a role; README.md shows how to make one"
	switch {
	case e.Certificate == "" && (secure || e.PrivateKey != ""):
		l.missing("fleet.etcd.certificate", hint)
	case e.PrivateKey == "" && (secure || e.Certificate != ""):
		l.missing(key, "name the key of "+e.Certificate)
	case e.PrivateKey != "" && e.PrivateKey == e.CAFile:
		l.bad("fleet.etcd.ca_file", "name the certificate of the CA", "is the file of the client's key")
	}
}

// checkFleetRecipients checks who can read what this host shares.
func (l *loader) checkFleetRecipients(f *Fleet) {
	const p = "fleet.recipients"
	switch {
	case len(f.Recipients) == 0:
		l.missing(p, "age-keygen -y FILE prints the recipient (age1…) of an identity; list those of all hosts, and of a recovery key")
		return
	case len(f.Recipients) > mostFleetRecipients:
		l.bad(p, "start a second fleet", "%d recipients; at most %d are possible", len(f.Recipients), mostFleetRecipients)
		return
	}
	for i, recipient := range f.Recipients {
		l.checkRecipient(at(p, i), recipient)
	}
	l.unique(p, f.Recipients)
	if len(f.Recipients) == 1 && !l.touched[p] {
		l.warn(p, "make one with age-keygen, add its recipient, and keep its identity in a safe place", "there is no recovery recipient besides this host: if its identity is lost, nobody can read what the store has")
	}
}

func (l *loader) checkRecipient(p, recipient string) {
	const hint = "age-keygen -y FILE prints it: age1 and 58 letters and digits"
	switch {
	case strings.HasPrefix(strings.ToUpper(recipient), ageSecret):
		l.index.hide(p, recipient)
		l.bad(p, "write what age-keygen -y prints for it; whoever has read this file has the identity, so make a new one", "is an identity, which is a secret, and not a recipient")
	case strings.HasPrefix(recipient, "age1pq1"), strings.HasPrefix(recipient, "age1tag"), strings.HasPrefix(recipient, "age1yubikey1"):
		l.bad(p, "make an identity with age-keygen, without other options", "%s is a recipient of another kind than X25519: nothing can be signed with its identity", quote(recipient))
	case strings.HasPrefix(recipient, "ssh-"):
		l.bad(p, hint, "%s is a key of SSH", quote(recipient))
	case !isRecipient(recipient):
		l.bad(p, hint, "%s is not a recipient of age", quote(recipient))
	}
}

// isRecipient checks the form of an age X25519 recipient.
func isRecipient(s string) bool {
	data, found := strings.CutPrefix(s, "age1")
	return found && len(data) == 58 && onlyHas(data, "qpzry9x8gf2tvdw0s3jn54khce6mua7l")
}

package configs

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

const (
	lower = "abcdefghijklmnopqrstuvwxyz"
	digit = "0123456789"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alnum = lower + upper + digit
)

// onlyHas reports whether every character of s is one of chars.
func onlyHas(s, chars string) bool { return strings.Trim(s, chars) == "" }

// domainName normalises a DNS name for a certificate: lower-case A-labels (RFC 5890) without the trailing dot.
// A wildcard is allowed as the whole left-most label (RFC 9525, section 6.3).
func domainName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	base, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case name == "":
		return "", errors.New("it is empty")
	case isAddress(name):
		return "", errors.New("an IP address is not a name; senders look for the MX host name in the certificate")
	case strings.Contains(base, "*"):
		return "", errors.New("a wildcard can only be the whole left-most label, as in *.example.org")
	case strings.Contains(name, "://"):
		return "", errors.New("this is a URL; write the host name alone")
	case strings.Contains(name, "@"):
		return "", errors.New("this is a mail address; write the name of the host that receives its mail")
	case !strings.Contains(base, "."):
		return "", errors.New("it has a single label; write the full name, as in mx.example.org")
	}
	ascii, err := asciiName(base)
	if err != nil {
		return "", err
	}
	if wildcard {
		ascii = "*." + ascii
	}
	if len(ascii) > 253 {
		return "", errors.New("it is longer than 253 characters")
	}
	return ascii, nil
}

// asciiName turns a host name into lower-case A-labels and checks it (RFC 1123, RFC 5891).
func asciiName(s string) (string, error) {
	ascii, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(true), idna.BidiRule()).ToASCII(s)
	labels := strings.Split(ascii, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return "", errors.New("it has an empty label")
		case len(label) > 63:
			return "", errors.New("it has a label of more than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", errors.New("a label cannot begin or end with a hyphen")
		}
	}
	switch {
	case !onlyHas(ascii, lower+digit+"-."):
		return "", errors.New("only letters, digits, hyphens and dots are allowed")
	case err != nil:
		return "", errors.New("it is not a valid internationalised name (RFC 5891)")
	case onlyHas(labels[len(labels)-1], digit):
		return "", errors.New("the last label cannot be a number")
	}
	return ascii, nil
}

// isAddress reports whether s is an IP address, in brackets or not.
func isAddress(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// mailAddress normalises a bare mail address (RFC 5321) as CAs take it: the domain as A-labels. A CA puts it into a mailto URL (RFC 8555
// section 7.3), so the part before the @ can have neither other characters than those of ASCII nor those that end a URL.
func mailAddress(s string) (string, error) {
	local, domain, found := cutLast(s)
	if !found || local == "" {
		return "", errors.New("this is not a mail address")
	}
	name, err := domainName(domain)
	switch {
	case err != nil:
		return "", fmt.Errorf("its domain is wrong: %v", err)
	case strings.HasPrefix(name, "*."):
		return "", errors.New("its domain is wrong: a wildcard has no mailboxes")
	case strings.ContainsFunc(local, func(r rune) bool { return r > '~' }):
		return "", errors.New("CAs take only ASCII characters before the @")
	case strings.ContainsAny(local, `?#%&"`):
		return "", errors.New("CAs do not take ? # % & or quotation marks before the @")
	}
	a, err := mail.ParseAddress(local + "@" + name)
	if err != nil || a.Name != "" || a.Address != local+"@"+name {
		return "", errors.New("this is not a mail address")
	}
	return a.Address, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndex(s, "@")
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// isPrivate reports whether a domain is only of a network of its own: CAs refuse mail addresses there, because no public DNS has the
// domain (RFC 6762, RFC 8375, RFC 7686, RFC 9476; internal is reserved by ICANN, and lan is what home routers use).
func isPrivate(domain string) bool {
	labels := strings.Split(domain, ".")
	return slices.Contains([]string{"local", "internal", "lan", "home", "corp", "alt", "onion"}, labels[len(labels)-1]) || strings.HasSuffix("."+domain, ".home.arpa")
}

// isReserved reports whether nobody can have a mailbox in a domain, because it is for documentation or tests (RFC 2606, RFC 6761).
func isReserved(domain string) bool {
	labels := strings.Split(domain, ".")
	top := labels[len(labels)-1]
	switch top {
	case "example", "test", "invalid", "localhost":
		return true
	case "com", "net", "org":
		return len(labels) > 1 && labels[len(labels)-2] == "example"
	}
	return false
}

// endpointAddress checks host:port, where the host is an IP address or a name.
func endpointAddress(s string) error {
	host, err := hostOf(s)
	if err != nil || isAddress(host) {
		return err
	}
	_, err = asciiName(host)
	return err
}

// hostOf returns the host of host:port. An IPv6 address must be in brackets.
func hostOf(s string) (string, error) {
	i := strings.LastIndex(s, ":")
	if i < 0 {
		return "", errors.New("the port is missing")
	}
	host, port := s[:i], s[i+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); !ok || err != nil || !a.Is6() {
			return "", errors.New("there is no IPv6 address in the brackets")
		}
		host = inner
	} else if strings.Contains(host, ":") {
		return "", errors.New("an IPv6 address with a port must be in brackets, as in [::1]:25")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || n == 0:
		return "", errors.New("the port is not a number from 1 to 65535")
	case host == "":
		return "", errors.New("the host is missing")
	}
	return host, nil
}

// count returns "1 key", "2 keys".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

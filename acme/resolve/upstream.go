package resolve

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const (
	overTLS   = "tls://"
	portOfDNS = 53
	portOfDoT = 853 // RFC 7858 section 3.1
)

// ValidatorHint says how to get a resolver on this host that validates DNSSEC, in two lines: Unbound of Debian does as it is installed, if the
// package with the key of the root is there, which it only recommends.
const ValidatorHint = "apt install unbound dns-root-data\n" +
	"then ask it: verify --resolver 127.0.0.1, or for good `dns: {resolvers: [\"127.0.0.1\"]}` in mxcert.yaml"

// ParseServer reads a recursive resolver as settings and flags name it, and returns it as [New] and [Resolver.Trust] take it, complete
// with its port: an IP address with an optional port, or tls://NAME@ADDRESS[:PORT] for one that is asked over TLS (RFC 7858) and has to
// prove with a certificate that it is NAME. The error says what is wrong with the text.
func ParseServer(text string) (string, error) {
	rest, encrypted := text, len(text) >= len(overTLS) && strings.EqualFold(text[:len(overTLS)], overTLS)
	if encrypted {
		rest = text[len(overTLS):]
	}
	if scheme, _, found := strings.Cut(rest, "://"); found {
		return "", fmt.Errorf("%q is not supported here: a resolver is an IP address, or tls://NAME@ADDRESS", scheme+"://")
	}
	if !encrypted {
		return parseAddress(text, portOfDNS)
	}
	name, address, found := strings.Cut(rest, "@")
	if !found {
		return "", errors.New("the name that the certificate of the resolver has is missing: tls://NAME@ADDRESS")
	}
	if name = strings.ToLower(strings.TrimSuffix(name, ".")); !isServerName(name) {
		return "", errors.New("before the @ must be the name that the certificate of the resolver has")
	}
	address, err := parseAddress(address, portOfDoT)
	if err != nil {
		return "", err
	}
	return overTLS + name + "@" + address, nil
}

// isServerName reports whether a certificate can be for a name: a host name or an IP address.
func isServerName(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	_, valid := dns.IsDomainName(name)
	return valid && name != "" && !strings.HasPrefix(name, ".") && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

// parseAddress completes an IP address with a port.
func parseAddress(text string, standard uint16) (string, error) {
	bare := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		bare = text[1 : len(text)-1]
	}
	if a, err := netip.ParseAddr(bare); err == nil && (bare == text || a.Is6()) {
		return netip.AddrPortFrom(a, standard).String(), nil
	}
	i := strings.LastIndex(text, ":")
	if i < 0 {
		return "", errNoAddress
	}
	host, port := text[:i], text[i+1:]
	if inside, bracketed := strings.CutPrefix(host, "["); bracketed {
		inside, closed := strings.CutSuffix(inside, "]")
		if a, err := netip.ParseAddr(inside); err != nil || !a.Is6() || !closed {
			return "", errors.New("there is no IPv6 address in the brackets")
		}
		host = inside
	} else if strings.Contains(host, ":") {
		return "", errors.New("an IPv6 address with a port must be in brackets")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", errors.New("the port is not a number from 1 to 65535")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "", errNoAddress
	}
	return netip.AddrPortFrom(a, uint16(number)).String(), nil
}

var errNoAddress = errors.New("a resolver must be an IP address")

// complete is ParseServer for what may not be checked yet: what it cannot read stays, and cannot be asked.
func complete(servers []string) []string {
	list := make([]string, 0, len(servers))
	for _, s := range servers {
		if full, err := ParseServer(s); err == nil {
			s = full
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// splitTLS returns the name and the address of a resolver that is asked over TLS.
func splitTLS(server string) (name, address string, encrypted bool) {
	rest, encrypted := strings.CutPrefix(server, overTLS)
	if !encrypted {
		return "", server, false
	}
	name, address, _ = strings.Cut(rest, "@")
	return name, address, true
}

// plainServer returns a resolver as people write it: without the port if that is the usual one.
func plainServer(server string) string {
	name, address, encrypted := splitTLS(server)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return server
	}
	standard, prefix := portOfDNS, ""
	if encrypted {
		standard, prefix = portOfDoT, overTLS+name+"@"
	}
	if port == strconv.Itoa(standard) {
		return prefix + host
	}
	return prefix + address
}

// digAt returns the arguments with which dig asks a server.
func digAt(server string) string {
	name, address, encrypted := splitTLS(server)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "@" + server
	}
	text := "@" + host
	if encrypted {
		text += " +tls-hostname=" + name
	}
	if port != "53" && !(encrypted && port == "853") {
		text += " -p " + port
	}
	return text
}

// delvAt is digAt for delv, which does not speak TLS.
func delvAt(server string) string {
	if _, _, encrypted := splitTLS(server); encrypted {
		return ""
	}
	return digAt(server) + " "
}

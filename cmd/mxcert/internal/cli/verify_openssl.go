package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/starttls"
	"mxcert/deploy/survey"
)

// equivalents returns commands of dig, curl and openssl that show what verify has seen, each once. They are whole command lines for a
// shell; names come from DNS, so everything that a shell could misread is quoted.
func equivalents(ctx context.Context, seen sight, task verifyTask) (lines []string) {
	e := equivalent{resolver: task.options.Resolver, server: digServer(task.servers, task.rootsFile), roots: task.rootsFile}
	if !task.options.At.IsZero() {
		e.at = strconv.FormatInt(task.options.At.Unix(), 10)
	}
	for _, d := range seen.domains {
		lines = appendNew(lines, e.dig(d.Domain, "MX"))
		lines = appendNew(lines, e.dig("_mta-sts."+d.Domain, "TXT"))
		if d.Policy.ID != "" {
			lines = append(lines, e.curl(ctx, d.Policy))
		}
	}
	for _, h := range seen.hosts {
		for _, base := range h.Bases {
			lines = appendNew(lines, e.dig(base.TLSA.Name, "TLSA"))
		}
		if h.Address.IsValid() {
			lines = appendNew(lines, e.pkix(h))
			if command := e.dane(h); command != "" {
				lines = appendNew(lines, command)
			}
		}
	}
	return lines
}

// equivalent makes commands.
type equivalent struct {
	resolver *resolve.Resolver
	server   []string // arguments of dig
	roots    string   // file; "" for the system's
	at       string   // seconds since 1970; "" for now
}

// digServer returns the arguments that make dig ask the first of the servers. Over TLS it must prove its name with a certificate of roots, or
// of the system's.
func digServer(servers []string, roots string) []string {
	if len(servers) == 0 {
		return nil
	}
	if rest, found := strings.CutPrefix(servers[0], "tls://"); found {
		name, address, _ := strings.Cut(rest, "@")
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = address, "853"
		}
		authorities := "+tls-ca"
		if roots != "" {
			authorities += "=" + roots
		}
		return []string{"@" + strings.Trim(host, "[]"), "-p", port, "+tls", authorities, "+tls-hostname=" + name}
	}
	host, port, err := net.SplitHostPort(servers[0])
	if err != nil {
		return []string{"@" + servers[0]}
	}
	return []string{"@" + host, "-p", port}
}

func (e equivalent) dig(name, kind string) string {
	words := append([]string{"dig"}, e.server...)
	return shellLine(append(words, "+dnssec", "+multiline", name, kind)...)
}

// curl fetches a policy from the address that our resolver gives, as mxcert does.
func (e equivalent) curl(ctx context.Context, found mtasts.Found) string {
	host := "mta-sts." + found.Domain
	words := []string{"curl", "--silent", "--show-error", "--include", "--max-redirs", "0", "--max-time", "60", "--max-filesize", "65536"}
	if e.roots != "" {
		words = append(words, "--cacert", e.roots)
	}
	if e.resolver != nil {
		if addresses, err := e.resolver.Addresses(ctx, host); err == nil {
			for i, address := range addresses {
				if strings.Contains(address, ":") {
					addresses[i] = "[" + address + "]"
				}
			}
			words = append(words, "--resolve", host+":443:"+strings.Join(addresses, ","))
		}
	}
	return shellLine(append(words, "https://"+host+"/.well-known/mta-sts.txt")...)
}

// connect returns the part of openssl s_client that all of its commands have.
func (e equivalent) connect(h survey.Host, serverName string) []string {
	address := netip.AddrPortFrom(h.Address, uint16(h.Port)).String() //nolint:gosec // a port fits
	words := []string{"openssl", "s_client", "-brief", "-connect", address}
	switch protocol := starttls.ProtocolOf(address); protocol {
	case starttls.TLS, starttls.SMTPS:
	default:
		words = append(words, "-starttls", string(protocol))
	}
	if isAddress(serverName) { // no SNI has one (RFC 6066 section 3)
		words = append(words, "-noservername", "-verify_return_error")
	} else {
		words = append(words, "-servername", serverName, "-verify_return_error")
	}
	if e.at != "" {
		words = append(words, "-attime", e.at)
	}
	return words
}

// pkix checks the chain and the name.
func (e equivalent) pkix(h survey.Host) string {
	check := "-verify_hostname"
	if isAddress(h.Host) {
		check = "-verify_ip"
	}
	words := append(e.connect(h, h.Host), check, h.Host)
	if e.roots != "" {
		words = append(words, "-no-CApath", "-no-CAstore", "-CAfile", e.roots)
	}
	return shellLine(words...) + " </dev/null"
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// dane checks the TLSA records of the base domain that decides: the first secure one that has any. It returns "" if there is none.
func (e equivalent) dane(h survey.Host) string {
	for _, base := range h.Bases {
		if base.TLSA.State != resolve.Secure || len(base.TLSA.Records) == 0 {
			continue
		}
		words := append(e.connect(h, base.Domain), "-dane_tlsa_domain", base.Domain, "-dane_ee_no_namechecks")
		for _, record := range base.TLSA.Records {
			words = append(words, "-dane_tlsa_rrdata", presentation(record))
		}
		return shellLine(words...) + " </dev/null"
	}
	return ""
}

// presentation returns a TLSA record as in a zone file (RFC 6698 section 2.2).
func presentation(r resolve.TLSA) string {
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, hex.EncodeToString(r.Data))
}

// shellLine joins words for a shell. It quotes each that is not plain.
func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = finding.Word(word)
	}
	return strings.Join(quoted, " ")
}

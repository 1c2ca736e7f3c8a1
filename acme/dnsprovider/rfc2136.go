package dnsprovider

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
)

const (
	defaultTTL     = 60
	defaultTimeout = 10 * time.Second
	// udpLimit is the largest update that goes over UDP: RFC 1035 section 4.2.1 promises 512 octets only.
	udpLimit = 512
	// tsigFudge is how far clocks may differ, in seconds (RFC 8945 section 10).
	tsigFudge = 300
)

// rfc2136 sends dynamic updates (RFC 2136) signed with TSIG (RFC 8945): one message a zone, adding or deleting exactly
// the given values, so that a wildcard and its apex, and records of others at the same name, live together.
type rfc2136 struct {
	resolver  *resolve.Resolver
	server    string // "host:port"; "" means the primary that the zone's SOA names
	keyName   string
	algorithm string
	secret    string
	ttl       uint32
	timeout   time.Duration
}

func newRFC2136(env map[string]string, resolver *resolve.Resolver) (Solver, error) {
	get := func(name, fallback string) string {
		return cmp.Or(env["DNSUPDATE_"+name], env["RFC2136_"+name], fallback)
	}
	s := &rfc2136{
		resolver: resolver, server: withDefaultPort(get("NAMESERVER", "")),
		keyName: get("TSIG_KEY", ""), secret: get("TSIG_SECRET", ""),
		algorithm: get("TSIG_ALGORITHM", dns.HmacSHA256), timeout: defaultTimeout, ttl: defaultTTL,
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !isVariable(name) {
			return nil, setupError(name, "it is no variable of this provider", "`mxcert providers rfc2136` lists them")
		}
	}
	if file := get("TSIG_FILE", ""); file != "" {
		if err := s.readKeyFile(file); err != nil {
			return nil, err
		}
	}
	if err := s.number(get("TTL", ""), "TTL", func(n int) { s.ttl = uint32(n) }); err != nil {
		return nil, err
	}
	if err := s.number(get("DNS_TIMEOUT", ""), "DNS_TIMEOUT", func(n int) { s.timeout = time.Duration(n) * time.Second }); err != nil {
		return nil, err
	}
	return s, s.checkKey()
}

// isVariable knows the provider's variables, by their new and their old prefix. lego's waiting times are let through,
// so that its settings can be taken over; dns.propagation says how long to wait.
func isVariable(name string) bool {
	short, found := strings.CutPrefix(name, "DNSUPDATE_")
	if !found {
		short, found = strings.CutPrefix(name, "RFC2136_")
	}
	switch short {
	case "NAMESERVER", "TSIG_KEY", "TSIG_SECRET", "TSIG_ALGORITHM", "TSIG_FILE", "TTL", "DNS_TIMEOUT",
		"POLLING_INTERVAL", "PROPAGATION_TIMEOUT", "SEQUENCE_INTERVAL":
		return found
	}
	return false
}

func setupError(variable, reason, hint string) *Error {
	return &Error{Provider: "rfc2136", Op: "set up", What: variable, Reason: reason, ErrKind: "dns-config", NextStep: hint}
}

func (s *rfc2136) number(text, variable string, set func(int)) error {
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 86400 {
		return setupError("DNSUPDATE_"+variable, fmt.Sprintf("%.40q is not a number of seconds from 1 to 86400", text), "mend the value")
	}
	set(n)
	return nil
}

func (s *rfc2136) checkKey() error {
	if s.keyName == "" || s.secret == "" {
		return setupError("DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET", "both are needed: unsigned updates are not sent",
			"make a key on the name server (tsig-keygen mxcert.) and give it the right to change the TXT records of _acme-challenge names")
	}
	if _, ok := dns.IsDomainName(s.keyName); !ok || strings.ContainsAny(s.keyName, " \t\"") {
		return setupError("DNSUPDATE_TSIG_KEY", fmt.Sprintf("%.80q is no name of a key", s.keyName), "write the name as the name server has it, for example mxcert.")
	}
	s.keyName = dns.CanonicalName(s.keyName)
	s.algorithm = dns.CanonicalName(s.algorithm)
	switch s.algorithm {
	case dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512:
	default:
		return setupError("DNSUPDATE_TSIG_ALGORITHM", fmt.Sprintf("%.40q is not supported", s.algorithm), "use hmac-sha256., hmac-sha384. or hmac-sha512.")
	}
	if _, err := base64.StdEncoding.DecodeString(s.secret); err != nil {
		return setupError("DNSUPDATE_TSIG_SECRET", "it is not base64", "copy the secret as tsig-keygen prints it, between the quotes")
	}
	return nil
}

// readKeyFile takes key name, algorithm and secret from a file as tsig-keygen writes it.
func (s *rfc2136) readKeyFile(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return setupError("DNSUPDATE_TSIG_FILE", err.Error(), "mend the path or the mode of the file")
	}
	words := strings.FieldsFunc(string(content), func(r rune) bool { return strings.ContainsRune(" \t\r\n;{}\"", r) })
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "key":
			s.keyName = words[i+1]
		case "algorithm":
			s.algorithm = words[i+1]
		case "secret":
			s.secret = words[i+1]
		}
	}
	return nil
}

// Present adds the records.
func (s *rfc2136) Present(ctx context.Context, records []TXT) error {
	return s.update(ctx, "create", records, func(m *dns.Msg, rr []dns.RR) { m.Insert(rr) })
}

// CleanUp deletes the records by value.
func (s *rfc2136) CleanUp(ctx context.Context, records []TXT) error {
	return s.update(ctx, "remove", records, func(m *dns.Msg, rr []dns.RR) { m.Remove(rr) })
}

// update sends one message a zone.
func (s *rfc2136) update(ctx context.Context, op string, records []TXT, change func(*dns.Msg, []dns.RR)) error {
	var order []string
	byZone := map[string][]dns.RR{}
	primary, domains := map[string]string{}, map[string][]string{}
	for _, r := range records {
		if byZone[r.Zone] == nil {
			order = append(order, r.Zone)
		}
		byZone[r.Zone] = append(byZone[r.Zone], s.txt(r))
		primary[r.Zone] = r.Primary
		domains[r.Zone] = append(domains[r.Zone], r.Domain)
	}
	var problems []error
	for _, zone := range order {
		message := new(dns.Msg).SetUpdate(zone)
		change(message, byZone[zone])
		problems = append(problems, s.send(ctx, op, what(zone, domains[zone]), zone, primary[zone], message))
	}
	return errors.Join(problems...)
}

func (s *rfc2136) txt(r TXT) dns.RR {
	return &dns.TXT{
		Hdr: dns.RR_Header{Name: r.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: s.ttl},
		Txt: []string{r.Value},
	}
}

// what names the records of an update, so that a name that is in the wrong zone is seen.
func what(zone string, domains []string) string {
	const most = 3
	names := strings.Join(domains[:min(len(domains), most)], ", ")
	if more := len(domains) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("TXT records for %s in zone %s", names, strings.TrimSuffix(zone, "."))
}

// send signs and sends a message. Beside NOERROR, the response codes of also are an answer to it that is well.
func (s *rfc2136) send(ctx context.Context, op, what, zone, primary string, message *dns.Msg, also ...int) error {
	server, err := s.serverFor(ctx, zone, primary)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &Error{Provider: "rfc2136", Op: op, What: what, Reason: err.Error(), ErrKind: "dns-unreachable", temporary: true,
			NextStep: "set DNSUPDATE_NAMESERVER to the server that takes updates"}
	}
	message.SetTsig(s.keyName, s.algorithm, tsigFudge, time.Now().Unix())
	answer, err := s.exchange(ctx, message, server)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && (answer.Rcode == dns.RcodeSuccess || slices.Contains(also, answer.Rcode)) {
		if answer.IsTsig() != nil {
			return nil
		}
		err = errors.New("it is not signed") // RFC 8945 section 5.4
	}
	return s.explain(op, what, server, message, answer, err)
}

// serverFor gives the server that takes updates for a zone. Records from the journal do not know their primary.
func (s *rfc2136) serverFor(ctx context.Context, zone, primary string) (string, error) {
	if s.server != "" {
		return s.server, nil
	}
	if primary == "" {
		place, err := s.resolver.Locate(ctx, zone)
		if err != nil {
			return "", err
		}
		primary = place.Primary
	}
	addresses, err := s.resolver.Addresses(ctx, primary)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(addresses[0], "53"), nil
}

// exchange sends over UDP, and over TCP when the message is large, nothing came back, or the answer is truncated. A
// repeated update is harmless: adding or deleting a value twice is the same as once.
func (s *rfc2136) exchange(ctx context.Context, message *dns.Msg, server string) (*dns.Msg, error) {
	networks := []string{"udp", "tcp"}
	if message.Len() > udpLimit {
		networks = networks[1:]
	}
	var answer *dns.Msg
	var err error
	for _, network := range networks {
		timeout := s.timeout
		if network == "udp" {
			timeout = min(timeout, 3*time.Second) // TCP is to have its chance
		}
		answer, err = s.exchangeOver(ctx, network, message.Copy(), server, timeout)
		if ctx.Err() != nil || (answer != nil && !answer.Truncated) {
			break
		}
	}
	return answer, err
}

func (s *rfc2136) exchangeOver(ctx context.Context, network string, message *dns.Msg, server string, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := dns.Client{Net: network, Timeout: timeout, TsigSecret: map[string]string{s.keyName: s.secret}}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(ctx, message, conn)
	if ctx.Err() != nil {
		return nil, ctx.Err() // not that the connection was closed because of it
	}
	return answer, err
}

func withDefaultPort(server string) string {
	if server == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), "53")
}

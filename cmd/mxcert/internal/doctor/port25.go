package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/wanted"
)

const (
	connectTime  = 8 * time.Second
	greetingTime = 30 * time.Second // many servers delay their greeting
	mostGreeting = 1024             // bytes that are read of a greeting
)

// greeted connects to an SMTP server, reads its greeting, and leaves with QUIT. Any greeting will do: a refusal comes from a server, too.
func greeted(ctx context.Context, endpoint string) error {
	conn, err := (&net.Dialer{Timeout: connectTime}).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return plainError(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	_ = conn.SetDeadline(time.Now().Add(greetingTime)) // a connection that cannot have one fails at the read
	line, err := bufio.NewReader(io.LimitReader(conn, mostGreeting)).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the connection is taken, but no greeting comes: %w", plainError(err))
	}
	if len(line) < 4 || strings.Trim(line[:3], "0123456789") != "" {
		return fmt.Errorf("it says %s, which is no greeting of SMTP", finding.Quoted(line, 60))
	}
	_, _ = io.WriteString(conn, "QUIT\r\n") // the answer is known
	return nil
}

// plainError leaves the addresses out of an error of the network.
func plainError(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.New("no answer in time")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// outgoing checks whether this host can reach port 25 of others, which many providers block. It greets MX hosts of a mail domain that is not
// ours, and sends no mail.
func (d *Doctor) outgoing(ctx context.Context, resolver *resolve.Resolver) []finding.Finding {
	var tried []string
	for _, domain := range d.Elsewhere {
		if slices.ContainsFunc(d.Certificates, func(want wanted.Certificate) bool { return slices.Contains(want.MailDomains, domain) }) {
			continue
		}
		for _, address := range someServers(ctx, resolver, domain) {
			err := greeted(ctx, net.JoinHostPort(address.String(), "25"))
			if err == nil {
				return []finding.Finding{well("this host can reach port 25 of others (%s, an MX host of %s)", address, domain)}
			}
			if !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) {
				tried = append(tried, fmt.Sprintf("%s: %v", address, err))
			}
		}
	}
	if len(tried) == 0 {
		return []finding.Finding{well("whether this host can reach port 25 of others was not judged: no MX host of %s was found, or there is no route", strings.Join(d.Elsewhere, ", "))}
	}
	return []finding.Finding{doubtful("this host cannot reach port 25 of others (%s)", strings.Join(tried, "; ")).
		Next("ask the provider of this host to open outgoing port 25; without it no mail can be delivered directly, and mxcert verify --domain cannot judge other hosts from here")}
}

// someServers returns an IPv4 and an IPv6 address of the most preferred MX host of a domain.
func someServers(ctx context.Context, resolver *resolve.Resolver, domain string) (list []netip.Addr) {
	for _, record := range resolver.LookMX(ctx, domain).Records {
		v4, v6 := resolver.LookIPv4(ctx, record.Host), resolver.LookIPv6(ctx, record.Host)
		list = append(list, v4.Records[:min(1, len(v4.Records))]...)
		list = append(list, v6.Records[:min(1, len(v6.Records))]...)
		if len(list) > 0 {
			return list
		}
	}
	return nil
}

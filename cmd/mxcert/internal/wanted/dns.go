package wanted

import (
	"context"
	"fmt"
	"net"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

// Resolver asks the configured name servers. It asks the server that takes updates on its own port, too. A resolver remembers zones and
// servers for a minute, so use a new one for each piece of work.
func (c Certificate) Resolver() *resolve.Resolver {
	return resolve.New(c.source.DNS.Resolvers, string(c.source.DNS.Env["DNSUPDATE_NAMESERVER"]))
}

// Solver sets up the DNS provider, and reads the secrets that its variables refer to. If a secret cannot be read, the error names its
// variable. Other errors come from the provider.
func (c Certificate) Solver(resolver *resolve.Resolver) (dnsprovider.Solver, error) {
	env := make(map[string]string, len(c.source.DNS.Env))
	var problem error
	dnsprovider.Undisturbed(func() { // env:NAME may be a variable that is being set for another certificate's provider just now
		for name, secret := range c.source.DNS.Env {
			value, err := c.secrets.read(secret)
			if err != nil {
				problem = fmt.Errorf("dns.env.%s: %w", name, err)
				return
			}
			env[name] = value
		}
	})
	if problem != nil {
		return nil, problem
	}
	return dnsprovider.New(c.source.DNS.Provider, env, resolver)
}

// Endpoints are the addresses that must show the certificate: the configured ones, else the usual ports of the mail servers
// on this host. An IPv6 address is among them only if something listens there; this function tries it.
func (c Certificate) Endpoints() []string {
	if c.source.Verify.EndpointsSet {
		return c.source.Verify.Endpoints
	}
	var ports []string
	if c.Has("exim", "postfix", "files") || !c.Has("dovecot") {
		ports = append(ports, "25")
	}
	if c.Has("dovecot") {
		ports = append(ports, "993")
	}
	return localEndpoints(ports...)
}

func localEndpoints(ports ...string) []string {
	var endpoints []string
	dialer := net.Dialer{Timeout: time.Second}
	for _, port := range ports {
		endpoints = append(endpoints, "127.0.0.1:"+port)
		if conn, err := dialer.DialContext(context.Background(), "tcp", "[::1]:"+port); err == nil {
			_ = conn.Close()
			endpoints = append(endpoints, "[::1]:"+port)
		}
	}
	return endpoints
}

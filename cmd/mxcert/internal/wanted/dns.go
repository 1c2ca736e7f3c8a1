package wanted

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/configs"
)

// Resolver asks the configured name servers. It asks the servers that take updates on their own ports, too. A resolver remembers zones and
// servers for a minute, so use a new one for each piece of work. Looks at TLSA records share the servers and the keys of zones with those of
// the other certificates.
func (c Certificate) Resolver() *resolve.Resolver {
	servers := []string{string(c.source.DNS.Env[updateServer])}
	for _, zone := range c.source.DNS.Zones {
		if server := string(zone.Env[updateServer]); server != "" && !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return resolve.New(c.source.DNS.Resolvers, servers...).Trust(c.source.DNS.ResolversTrusted...).Share(c.zones)
}

// TrustedResolvers are the resolvers whose validation counts although they are not on loopback, as the configuration has them.
func (c Certificate) TrustedResolvers() []string { return c.source.DNS.ResolversTrusted }

const updateServer = "DNSUPDATE_NAMESERVER"

// Accounts returns the DNS accounts of the certificate: those of dns.zones, and that of dns.provider if it is set. Each is set up, and
// the secrets that its variables refer to are read, when it is needed first. If a secret cannot be read, the error names its variable.
// Other errors come from the provider.
func (c Certificate) Accounts(resolver *resolve.Resolver) dnsprovider.Accounts {
	var accounts dnsprovider.Accounts
	add := func(zone, path, provider string, env map[string]configs.Secret) {
		accounts = append(accounts, dnsprovider.NewAccount(zone, provider, func() (dnsprovider.Solver, error) {
			values, err := c.environment(path, env)
			if err != nil {
				return nil, err
			}
			return dnsprovider.New(provider, values, resolver)
		}))
	}
	if dns := c.source.DNS; dns.Provider != "" {
		add("", "dns", dns.Provider, dns.Env)
	}
	for _, zone := range c.source.DNS.Zones {
		add(zone.Name, zone.Path, zone.Provider, zone.Env)
	}
	return accounts
}

// environment reads the variables of the account at a path of the configuration.
func (c Certificate) environment(path string, env map[string]configs.Secret) (map[string]string, error) {
	values := make(map[string]string, len(env))
	var problem error
	dnsprovider.Undisturbed(func() { // env:NAME may be a variable that is being set for another certificate's provider just now
		for name, secret := range env {
			value, err := c.secrets.read(secret)
			if err != nil {
				problem = fmt.Errorf("%s.env.%s: %w", path, name, err)
				return
			}
			values[name] = value
		}
	})
	return values, problem
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

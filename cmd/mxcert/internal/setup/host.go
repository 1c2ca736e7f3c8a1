package setup

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/discover"
	"mxcert/deploy/mx"
)

// Host is what mxcert can find out about this host without a question.
type Host struct {
	Names       []string // the names that senders use first
	MailDomains []string // whose MX host is this host
	Servers     []Server // the mail servers that listen; if none does, those that are installed
	Notes       []string // what Look has found, in words
}

// Look finds the host's names, its mail servers and what else listens on the ports of mail. If it cannot find something, that field stays
// empty; mxcert doctor says why. resolvers are those of the configuration; without them Look asks the system's.
func Look(ctx context.Context, resolvers []string) Host {
	h := Host{}
	if name := hostName(ctx); strings.Contains(name, ".") {
		h.Names = []string{name}
		h.note("host name %s", name)
		if own, err := mx.Own(nil); err == nil {
			h.mxNames(ctx, name, resolve.New(resolvers), own)
		}
	}
	h.askServers(ctx, discover.Listening(mailPorts()...))
	return h
}

func (h *Host) note(format string, values ...any) {
	h.Notes = append(h.Notes, fmt.Sprintf(format, values...))
}

// patience bounds the look at one domain.
const patience = 10 * time.Second

// mxNames adds the MX hosts of this host's domains that have one of this host's own addresses, and notes the domains.
func (h *Host) mxNames(ctx context.Context, host string, resolver *resolve.Resolver, own []netip.Addr) {
	for domain := host; strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		within, cancel := context.WithTimeout(ctx, patience)
		found := mx.Look(within, resolver, domain, own)
		cancel()
		if found.Implicit || len(found.Names) == 0 {
			continue
		}
		h.MailDomains = append(h.MailDomains, domain)
		for _, n := range found.Names {
			h.note("MX of %s: %s, an address of this host", domain, n.Name)
			if !slices.Contains(h.Names, n.Name) {
				h.Names = append([]string{n.Name}, h.Names...)
			}
		}
	}
}

// hostName returns the fully qualified name, as the host knows it.
func hostName(ctx context.Context) string {
	if name := command(ctx, "hostname", "--fqdn"); strings.Contains(name, ".") {
		return strings.ToLower(name)
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
}

package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// Host is what mxcert can find out about this host without a question.
type Host struct {
	Names      []string // the names that senders use first
	MailServer string   // exim; "" if no mail server was found
	Exim       discover.EximSetup
	Notes      []string // what Look has found, in words
}

// Look finds the host's names and its mail server. If it cannot find something, that field stays empty; mxcert doctor says why.
// resolvers are those of the configuration; without them Look asks the system's.
func Look(ctx context.Context, resolvers []string) Host {
	h := Host{}
	if name := hostName(ctx); strings.Contains(name, ".") {
		h.Names = []string{name}
		h.note("host name %s", name)
		h.mxNames(ctx, name, resolve.New(resolvers), ownAddresses())
	}
	h.askExim(ctx)
	return h
}

func (h *Host) note(format string, values ...any) {
	h.Notes = append(h.Notes, fmt.Sprintf(format, values...))
}

// directory answers questions about names; a *resolve.Resolver does.
type directory interface {
	MX(ctx context.Context, domain string) ([]string, error)
	Addresses(ctx context.Context, host string) ([]string, error)
}

// mxNames adds the MX hosts of this host's domains that have one of this host's own addresses.
func (h *Host) mxNames(ctx context.Context, host string, dns directory, own []string) {
	for domain := host; strings.Contains(domain, "."); _, domain, _ = strings.Cut(domain, ".") {
		for _, mx := range mxOf(ctx, dns, domain) {
			addresses, err := dns.Addresses(ctx, mx)
			if err != nil || !slices.ContainsFunc(addresses, func(a string) bool { return slices.Contains(own, a) }) {
				continue
			}
			h.note("MX of %s: %s, an address of this host", domain, mx)
			if !slices.Contains(h.Names, mx) {
				h.Names = append([]string{mx}, h.Names...)
			}
		}
	}
}

// patience bounds each query about the host.
const patience = 10 * time.Second

func mxOf(ctx context.Context, dns directory, domain string) []string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	hosts, err := dns.MX(ctx, domain)
	if err != nil {
		return nil
	}
	return hosts
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

func ownAddresses() (list []string) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok {
			list = append(list, network.IP.String())
		}
	}
	return list
}

// askExim asks Exim which files it reads.
func (h *Host) askExim(ctx context.Context) {
	setup, err := discover.Exim(ctx)
	if errors.Is(err, discover.ErrAbsent) {
		h.note("no Exim on this host")
		return
	}
	h.MailServer, h.Exim = exim, setup
	switch pair := setup.Pair; {
	case err != nil:
		h.note("Exim, which does not say what it reads: %v", err)
	case setup.Setting == "":
		h.note("Exim (%s), which has no certificate of yours yet", setup.Program)
	case pair == deploy.Pair{}:
		h.note("Exim (%s), which reads %s: not one plain path", setup.Program, finding.Quote(setup.Setting, 200))
	case pair.Certificate == pair.Key:
		h.note("Exim (%s), which reads certificate and key from %s", setup.Program, pair.Certificate)
	default:
		h.note("Exim (%s), which reads %s and %s", setup.Program, pair.Certificate, pair.Key)
	}
}

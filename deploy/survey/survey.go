// Package survey looks at mail hosts as senders do: it resolves, connects to every address, and has [verdict.Judge] judge what it saw.
//
// [LookAtDomain] begins with the MX records (RFC 5321 section 5.1), [LookAtHost] with a host. Both ask for the addresses with their DNSSEC
// state, for the TLSA records (RFC 7672 section 2.2) and for the MTA-STS policy (RFC 8461), and make handshakes with every address and
// port: with different key types and different names in SNI, the most telling first. There is one connection at a time to an address, and
// different addresses are looked at in parallel, so a host that is slow or hostile costs the others nothing. No mail is sent, and none is
// begun. Everything ends when the context ends.
//
// Beside the verdicts, a survey has findings: what a postmaster should know about the names, the conversation, SNI, the versions of TLS
// and the certificates.
//
// Not supported: client certificates, resumption, and everything that package starttls does not support.
package survey

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/verdict"
)

// Options say how to look.
type Options struct {
	Resolver    *resolve.Resolver
	Roots       *x509.CertPool        // nil: those of the system
	At          time.Time             // zero: now
	Port        int                   // 0: 25
	PolicyRoots *x509.CertPool        // roots that count for policy hosts, beside Roots; nil: none
	Connections int                   // at most so many to one address that is not ours; 0: 4
	Full        bool                  // all handshakes, also with hosts of others
	Ours        func(netip.Addr) bool // nil: none is

	// Progress is told, by several goroutines, how far the look at a domain or a host is: the stage is "mx" or "handshake". nil: nobody is.
	Progress func(name, stage, message string)

	// Turns is shared with other looks at the same time, which may meet the same addresses. nil: there are none.
	Turns *Turns

	// Ports are further ports to look at on addresses that are ours, such as 465 and 993. A port on which nothing listens is left out.
	Ports []int
	// Deployed returns the leaves that are deployed for a host of ours, one for each key type. nil: nothing is known.
	Deployed func(host string) []*x509.Certificate
	// BannerTimeout and StepTimeout are those of starttls.Request.
	BannerTimeout, StepTimeout time.Duration
}

// Host is one address of one MX host. A host without an address, or one that was not asked, has one entry without an address.
type Host struct {
	verdict.Facts
	Verdicts map[verdict.Kind]verdict.Verdict
	Findings []finding.Finding
}

// Domain is a mail domain.
type Domain struct {
	Domain   string
	MX       resolve.Set[resolve.MX]
	Policy   mtasts.Found
	Verdicts map[verdict.Kind]verdict.Verdict // fail: no host is left for that kind of sender
	Findings []finding.Finding
}

// LookAtDomain looks at all that a sender of mail to the domain meets. The hosts are in the order in which a sender tries them.
func LookAtDomain(ctx context.Context, domain string, o Options) (Domain, []Host) {
	s := newSurvey(o)
	s.byMX = true
	d := Domain{Domain: asciiName(domain)}
	var policy sync.WaitGroup
	policy.Go(func() {
		d.Policy = mtasts.Client{Resolver: o.Resolver, Roots: o.Roots, Also: o.PolicyRoots, At: o.At}.Look(ctx, d.Domain)
	})
	d.MX = o.Resolver.LookMX(ctx, d.Domain)
	names, found := hostsOf(d.Domain, d.MX)
	s.say(d.Domain, "mx", "mail goes to "+counted(len(names), "host"))
	d.Findings = found
	hosts := s.hosts(ctx, names)
	policy.Wait()
	d.Findings = append(d.Findings, d.Policy.Findings...)
	for _, h := range hosts {
		d.Findings = append(d.Findings, h.aboutMX(d.Domain)...)
		h.route.Domain, h.route.MX, h.route.Policy = d.Domain, &d.MX, &d.Policy
	}
	list := s.judge(hosts)
	d.Verdicts = s.domainVerdicts(d, list)
	return d, list
}

// LookAtHost looks at all addresses of a host, as a sender does to which the host is named as the next hop.
func LookAtHost(ctx context.Context, host string, o Options) []Host {
	s := newSurvey(o)
	return s.judge(s.hosts(ctx, []string{asciiName(host)}))
}

// survey is one look.
type survey struct {
	Options
	byMX  bool          // the hosts' names are from MX records
	slots chan struct{} // limits the handshakes under way

	mu     sync.Mutex
	places map[netip.Addr]*place
}

// mostHandshakes limits the handshakes under way. Each takes some 100 KB while it lasts.
const mostHandshakes = 256

func newSurvey(o Options) *survey {
	if o.Port == 0 {
		o.Port = 25
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	return &survey{Options: o, slots: make(chan struct{}, mostHandshakes), places: map[netip.Addr]*place{}}
}

// say reports progress.
func (s *survey) say(name, stage, message string) {
	if s.Progress != nil {
		s.Progress(name, stage, message)
	}
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func (s *survey) ours(address netip.Addr) bool { return s.Ours != nil && s.Ours(address) }

// time returns the moment to judge.
func (s *survey) time() time.Time {
	if s.At.IsZero() {
		return time.Now()
	}
	return s.At
}

// judge turns what was seen into entries, in order, with verdicts and findings.
func (s *survey) judge(hosts []*host) (list []Host) {
	for _, h := range hosts {
		first := len(list)
		for _, e := range h.endpoints {
			if e.absent {
				continue
			}
			facts := verdict.Facts{Route: h.route, Port: e.port, Handshakes: e.handshakes, At: s.time(), Roots: s.Roots}
			if len(e.handshakes) > 0 {
				facts.Address = e.address
			} else if e.address.IsValid() {
				facts.NotAsked = e.whyNot()
			}
			entry := Host{Facts: facts, Findings: s.findings(h, e, facts)}
			var more []finding.Finding
			entry.Verdicts, more = verdict.Judge(facts)
			if entry.Verdicts[verdict.PKIX].NotJudged {
				doubt(entry.Findings)
			}
			entry.Findings = merged(entry.Findings, more)
			list = append(list, entry)
		}
		compare(list[first:])
	}
	return list
}

package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/deploy/served"
	"mxcert/deploy/starttls"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// verifyOwn looks at the endpoints of own certificates.
func (a *app) verifyOwn(parent context.Context, task verifyTask) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	host, err := wanted.From(config)
	if err != nil {
		return err
	}
	wants, err := choose(host, task.names)
	if err != nil {
		return err
	}
	store, err := view(host.State)
	if err != nil {
		return err
	}
	task.logs = readLogs(config)
	ctx, cancel := a.within(parent, verifyTime)
	defer cancel()
	narrator := a.narrate()
	task.options.Progress = narrator.speakOf()
	parts, reports := lookAtAllOwn(ctx, store, wants, task)
	public := lookAtMailDomains(ctx, wants, task)
	narrator.end()
	if err := parent.Err(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	a.sayUnserved(wants, reports)
	r := newVerifyReport(public.sight, task)
	public.forgive(&r)
	r.Hosts = append(slices.Concat(reports...), r.Hosts...)
	seen := sight{domains: public.domains}
	for _, part := range parts {
		seen.hosts = append(seen.hosts, part.hosts...)
	}
	seen.hosts = append(seen.hosts, public.hosts...)
	if r.Hosts == nil {
		r.Hosts = []hostReport{}
	}
	if task.commands {
		r.Commands = equivalents(ctx, seen, task)
	}
	return a.finishVerify(r, verifyCode(r, task))
}

// lookAtAllOwn looks at the endpoints of each certificate.
func lookAtAllOwn(ctx context.Context, store *state.Book, wants []wanted.Certificate, task verifyTask) ([]sight, [][]hostReport) {
	var group errgroup.Group
	parts, reports := make([]sight, len(wants)), make([][]hostReport, len(wants))
	for i, want := range wants {
		group.Go(func() error {
			parts[i], reports[i] = lookAtOwn(ctx, store, want, task)
			return nil
		})
	}
	_ = group.Wait() // the reports contain the errors
	return parts, reports
}

// sayUnserved names the certificates that no endpoint is configured for.
func (a *app) sayUnserved(wants []wanted.Certificate, reports [][]hostReport) {
	for i, want := range wants {
		if len(reports[i]) == 0 {
			_ = a.say("%s: no endpoint configured, so there was nothing to look at\n", want.Name) // the console remembers
		}
	}
}

// lookAtOwn looks at the endpoints of one certificate.
func lookAtOwn(ctx context.Context, store *state.Book, want wanted.Certificate, task verifyTask) (seen sight, reports []hostReport) {
	options := ownOptions(want, task)
	endpoints := want.Endpoints()
	seen.hosts, reports = make([]survey.Host, len(endpoints)), make([]hostReport, len(endpoints))
	have, err := issued.Look(store.Lineage(want.Name), want.Keys)
	if err != nil {
		have.Bundles = make([]*bundle.Bundle, len(want.Keys))
	}
	var group errgroup.Group
	for i, endpoint := range endpoints {
		group.Go(func() error {
			at, name := addressAndPort(ctx, endpoint)
			seen.hosts[i] = survey.LookAtEndpoint(ctx, want.ServerName(), at, options)
			reports[i] = ownReport(endpoint, seen.hosts[i], want, have.Bundles, options)
			reports[i].SCTs = sctsOf(seen.hosts[i], task.logs, cmp.Or(options.At, time.Now()))
			if name != "" {
				reports[i].Address = name
			}
			if !at.Addr().IsValid() {
				reports[i].add(finding.New("name-not-found", finding.Error, "the endpoint %s of verify.endpoints has no address", endpoint).Next("check its spelling, or write its address"))
			}
			return nil
		})
	}
	_ = group.Wait() // the reports contain the errors
	return seen, reports
}

// ownOptions say how to look at what a certificate is for.
func ownOptions(want wanted.Certificate, task verifyTask) survey.Options {
	options := task.options
	options.Roots, options.Resolver = task.rootsOr(want.Roots), want.Resolver()
	if len(task.servers) > 0 {
		options.Resolver = task.resolver(want.TrustedResolvers())
	}
	if task.options.Roots == nil && want.Roots != nil { // acme.roots_file is about the own certificates
		options.PolicyRoots = systemRoots()
	}
	options.Deployed = func(string) []*x509.Certificate { return deployed(want) }
	return options
}

// addressAndPort returns where an endpoint of the configuration is. name is that of its host if the configuration does not have its address;
// then the first of its addresses that accepts a connection is the endpoint, as for the handshakes of a renewal.
func addressAndPort(ctx context.Context, endpoint string) (at netip.AddrPort, name string) {
	host, port, _ := net.SplitHostPort(endpoint)
	number, _ := strconv.ParseUint(port, 10, 16) // cannot fail: configs has checked it
	address, err := netip.ParseAddr(host)
	if err == nil {
		return netip.AddrPortFrom(address, uint16(number)), ""
	}
	list, _ := resolve.AsThisHost(ctx, host) // the report says that there is none
	if len(list) > 0 {
		address = list[0]
	}
	if len(list) > 1 {
		dialer := net.Dialer{Timeout: 10 * time.Second}
		if conn, err := dialer.DialContext(ctx, "tcp", endpoint); err == nil {
			if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
				address = remote.AddrPort().Addr()
			}
			_ = conn.Close()
		}
	}
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), host
}

// deployed returns the leaves in the files that the mail server should read, as far as this user may read them.
func deployed(want wanted.Certificate) (leaves []*x509.Certificate) {
	for _, target := range want.Targets() {
		for _, path := range []string{target.Certificate, target.Combined} {
			text, err := os.ReadFile(path)
			for err == nil && len(text) > 0 {
				var block *pem.Block
				if block, text = pem.Decode(text); block == nil {
					break
				} else if leaf, err := x509.ParseCertificate(block.Bytes); block.Type == "CERTIFICATE" && err == nil {
					leaves = append(leaves, leaf)
					break
				}
			}
		}
	}
	return leaves
}

// ownReport is the report on an endpoint that must show the current certificates, one for each key type.
func ownReport(endpoint string, seen survey.Host, want wanted.Certificate, current []*bundle.Bundle, o survey.Options) hostReport {
	h := newHostReport(seen)
	for i, key := range want.Keys {
		at := slices.IndexFunc(seen.Handshakes, func(s verdict.Handshake) bool {
			return s.ServerName == want.ServerName() && s.Ask == served.Ask(want.Keys, i)
		})
		if at < 0 {
			at = 0 // the first has failed, and so would all others
		}
		h.judgeOwn(at, seen.Handshakes, string(key), current[i], want.HostNames(), o)
		if at < len(seen.Handshakes) && h.Handshakes[at].Matches {
			probe := served.Probe{Address: endpoint, Want: current[i]}
			if _, err := pass.Sent(want, served.Result{Probe: probe, Shown: seen.Handshakes[at].Shown, Matches: true}); err != nil {
				h.add(finding.New("ocsp-not-sent", finding.Warning, "%s", err.Error()).Next(report.HintOf(err)))
			}
		}
	}
	for i, s := range seen.Handshakes {
		if s.Shown != nil && !h.Handshakes[i].Matches {
			h.Handshakes[i].Matches = slices.ContainsFunc(current, func(b *bundle.Bundle) bool { return b != nil && b.Leaf().Equal(s.Shown.Chain[0]) })
		}
	}
	if len(seen.Addresses) > 0 && !slices.ContainsFunc(seen.Addresses, func(a resolve.Answer) bool { return !unanswered(a) }) {
		h.forgetDNS(seen.Addresses[0].Err)
	}
	if o.Roots == nil && onlyUnknownRoot(h.Findings) {
		forgiveRoot(h.Verdicts)
	}
	return h
}

// forgetDNS says that nobody knows what DNS says about an own endpoint, because no resolver answers. That is no fault of what is served.
func (h *hostReport) forgetDNS(err error) {
	for _, kind := range []verdict.Kind{verdict.DANE, verdict.RequireTLS} {
		if h.Verdicts[kind].Result == verdict.Fail {
			h.Verdicts[kind] = verdictReport{Result: verdict.NotApplicable, NotJudged: true, Reason: "no resolver answers: " + err.Error()}
		}
	}
}

// forgiveRoot says of what fails only because this host does not know the root that it does not count.
func forgiveRoot(verdicts map[verdict.Kind]verdictReport) {
	for _, kind := range []verdict.Kind{verdict.PKIX, verdict.RequireTLS} {
		if v := verdicts[kind]; v.Result == verdict.Fail && v.Type == "certificate-not-trusted" {
			v.NotCounted = "not counted, because acme.roots_file is not set, and a private CA may be meant"
			verdicts[kind] = v
		}
	}
}

// judgeOwn says whether a handshake shows the current certificate for a key type, and whether that has all names.
func (h *hostReport) judgeOwn(at int, made []verdict.Handshake, key string, current *bundle.Bundle, names []string, o survey.Options) {
	if at >= len(made) {
		h.unserved = true
		return
	}
	shake, shown := &h.Handshakes[at], made[at].Shown
	shake.Key = key
	if err := made[at].Err; err != nil {
		h.unserved = true
		h.add(finding.New(report.KindOf(err), finding.Error, "%s", err.Error()).Next(report.HintOf(err)))
	}
	if shown == nil {
		return
	}
	for _, f := range starttls.CheckChain(shown.Chain, names, o.Roots, cmp.Or(o.At, time.Now())) {
		h.add(f)
	}
	shake.Matches = current != nil && current.Leaf().Equal(shown.Chain[0])
	if !shake.Matches {
		h.unserved = true
		h.add(notCurrent(current, shake.Serial))
	}
}

// add adds a finding. One of the same kind about fewer names, or about the same, gives way.
func (h *hostReport) add(f finding.Finding) {
	i := slices.IndexFunc(h.Findings, func(old finding.Finding) bool {
		return old.ID == f.ID && (old.Message == f.Message || f.ID == "certificate-host-mismatch")
	})
	if i < 0 {
		h.Findings = append(h.Findings, f)
		return
	}
	h.Findings[i] = f
}

// onlyUnknownRoot reports whether nothing is wrong with a chain but that it leads to a root that this host does not know.
func onlyUnknownRoot(findings []finding.Finding) bool {
	unknown := false
	for _, f := range findings {
		switch {
		case f.ID == "certificate-not-trusted":
			unknown = true
		case f.Severity == finding.Error && (strings.HasPrefix(f.ID, "certificate-") || strings.HasPrefix(f.ID, "chain-")):
			return false
		}
	}
	return unknown
}

func notCurrent(want *bundle.Bundle, serial string) finding.Finding {
	f := finding.Finding{ID: "not-current", Severity: finding.Error, Hint: "run: mxcert renew",
		Message: fmt.Sprintf("the served certificate (serial %s) was not issued through mxcert", serial)}
	if want != nil {
		f.Message = fmt.Sprintf("serial %s is served, but serial %s is current", serial, want.Serial())
	}
	return f
}

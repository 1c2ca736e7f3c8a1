package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/mx"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/journal"
)

const (
	// sendersPause is how old the last look as a sender must be, unless a deployment has changed something: passes come once an hour.
	sendersPause = 50 * time.Minute
	// sendersTime limits a look at one domain as a sender. A host that takes longer must not hide what the look has found at others.
	sendersTime = 5 * time.Minute
	// mostSurveys limits how many domains are looked at together.
	mostSurveys = 4
	// mostSaid limits the findings that are kept.
	mostSaid = 100
	// mostHosts limits the addresses whose verdicts are kept.
	mostHosts = 100
)

// surveyor looks at a mail domain as senders do; survey.LookAtDomain does.
type surveyor func(ctx context.Context, domain string, o survey.Options) (survey.Domain, []survey.Host)

// lookAsSender starts a look at the certificate's mail domains as their senders meet them, after a pass: if the pass has deployed something,
// or if the last look is about an hour ago. It runs when no other such look does. No pass waits for it.
func (d *Daemon) lookAsSender(o *order, result report.Certificate) {
	if len(o.want.MailDomains) == 0 || result.Stage == report.Failed && !result.Changed {
		return
	}
	d.mu.Lock()
	due := result.Changed || time.Since(d.surveyed[o.want.Name]) >= sendersPause
	if due {
		d.surveyed[o.want.Name] = time.Now()
	}
	d.mu.Unlock()
	if !due {
		return
	}
	w := o.workload
	w.begin(&d.tending, func() {
		defer func() {
			if w.waiting.Err() != nil { // it was interrupted, so the next configuration looks again
				d.mu.Lock()
				delete(d.surveyed, o.want.Name)
				d.mu.Unlock()
			}
		}()
		select {
		case d.surveys <- struct{}{}:
			defer func() { <-d.surveys }()
		case <-w.waiting.Done():
			return
		}
		d.survey(w, o.want)
		d.restLater()
	})
}

// note is what is stored about senders.
type note struct {
	report.Senders
	Policies mtasts.Memory `json:"policies"` // that senders may have cached
}

// survey looks at the mail domains of a certificate, logs what is new and what is gone, and keeps it for `mxcert status`.
func (d *Daemon) survey(w *workload, want wanted.Certificate) {
	lineage := w.runner.Store.Lineage(want.Name)
	seen, policies := meet(w.waiting, want, leavesOf(lineage, want), d.look) // it ends with the configuration that it is about
	if w.waiting.Err() != nil {
		return
	}
	log := d.log.With("certificate", want.Name)
	var before note
	if err := lineage.Senders(&before); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what senders met before is not known", "error", err)
	}
	now := note{Senders: seen, Policies: before.Policies}
	for _, policy := range policies {
		now.add(now.Policies.Note(policy, seen.At), policy.Domain)
	}
	now.Policies.Keep(want.MailDomains)
	now.finish()
	if err := lineage.SaveSenders(now); err != nil {
		log.Warn("what senders meet could not be stored", "error", err)
	}
	tellFaults(log, before.Findings, now.Findings)
	d.Tell.Found(tell.Topic{Source: "senders", Certificate: want.Name}, now.Findings)
}

// tellFaults logs what is new and what is gone.
func tellFaults(log *slog.Logger, before, now []finding.Finding) {
	for _, f := range apart(now, before) {
		tell := log.Warn
		if f.Severity == finding.Error {
			tell = log.Error
		}
		tell("senders meet a fault", "id", f.ID, "subject", f.Subject, "detail", f.Message, "hint", f.Hint, journal.SendersFault.Attr())
	}
	for _, f := range apart(before, now) {
		log.Info("senders do not meet this any more", "id", f.ID, "subject", f.Subject, journal.SendersWell.Attr())
	}
}

// leavesOf returns which certificates are deployed for a host.
func leavesOf(lineage *state.Lineage, want wanted.Certificate) func(host string) []*x509.Certificate {
	have, err := issued.Look(lineage, want.Keys)
	return func(host string) (list []*x509.Certificate) {
		if err != nil {
			return nil
		}
		for _, b := range have.Bundles {
			if b != nil && b.Leaf().VerifyHostname(host) == nil {
				list = append(list, b.Leaf())
			}
		}
		return list
	}
}

// apart returns the findings of a list that another list does not have.
func apart(list, other []finding.Finding) []finding.Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f finding.Finding) bool {
		return slices.ContainsFunc(other, func(o finding.Finding) bool {
			return o.ID == f.ID && o.Subject == f.Subject && o.Severity == f.Severity
		})
	})
}

// meet looks at the mail domains of a certificate. Hosts with an address of this host are ours; to others it makes few connections.
func meet(ctx context.Context, want wanted.Certificate, deployed func(string) []*x509.Certificate, look surveyor) (report.Senders, []mtasts.Found) {
	own, _ := mx.Own(want.PublicAddresses) // what could not be read is a host of others, which costs only thoroughness
	options := survey.Options{Resolver: want.Resolver(), Roots: want.Roots, Ports: want.MailPorts(), Deployed: deployed,
		Ours:  func(a netip.Addr) bool { return slices.Contains(own, a.Unmap()) },
		Turns: new(survey.Turns)} // domains often share an MX host
	if want.Roots != nil { // of the own certificates; the policy host may have one of a public CA
		options.PolicyRoots, _ = x509.SystemCertPool() // without one, the own roots alone count
	}
	found, policies := make([][]finding.Finding, len(want.MailDomains)), make([]mtasts.Found, len(want.MailDomains))
	judged := make([][]report.SenderHost, len(want.MailDomains))
	var group errgroup.Group
	group.SetLimit(mostSurveys)
	for i, domain := range want.MailDomains {
		group.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, sendersTime)
			defer cancel()
			d, hosts := look(limited, domain, options)
			found[i], policies[i], judged[i] = faultsOf(d, hosts), d.Policy, verdictsOf(hosts)
			return nil
		})
	}
	_ = group.Wait() // the findings say what failed
	n := note{Senders: report.Senders{Version: state.Version, At: time.Now().UTC().Truncate(time.Second), Domains: want.MailDomains, Findings: []finding.Finding{}}}
	for i, list := range found {
		n.add(list, want.MailDomains[i])
		n.Hosts = append(n.Hosts, judged[i][:min(len(judged[i]), mostHosts-len(n.Hosts))]...)
	}
	return n.Senders, policies
}

// add adds findings that are no good news and not there yet.
func (n *note) add(list []finding.Finding, subject string) {
	for _, f := range list {
		if f.Severity == finding.OK {
			continue
		}
		f.Subject = cmp.Or(f.Subject, subject)
		f.Message, f.Hint = finding.QuoteLink(f.Message, finding.MostQuoted), finding.QuoteLink(f.Hint, finding.MostQuoted)
		n.Findings = append(n.Findings, apart([]finding.Finding{f}, n.Findings)...)
	}
}

// finish puts the worst findings first, and keeps no more than can be read.
func (n *note) finish() {
	slices.SortStableFunc(n.Findings, func(a, b finding.Finding) int { return cmp.Compare(rank(b.Severity), rank(a.Severity)) })
	n.Findings = n.Findings[:min(len(n.Findings), mostSaid)]
}

func rank(s finding.Severity) int {
	return slices.Index([]finding.Severity{finding.OK, finding.Warning, finding.Error}, s)
}

// faultsOf lists what is wrong with a domain: the kinds of sender for which no host is left, and the findings about the domain and its hosts.
func faultsOf(d survey.Domain, hosts []survey.Host) (list []finding.Finding) {
	for _, kind := range verdict.Kinds {
		if v := d.Verdicts[kind]; v.Result == verdict.Fail {
			list = append(list, finding.New("senders-"+string(kind), finding.Error, "%s", v.Reason).About(d.Domain).
				Next("mxcert verify --domain "+d.Domain+" shows each address"))
		}
	}
	list = append(list, d.Findings...)
	for _, h := range hosts {
		subject := h.Host
		if h.Address.IsValid() {
			subject += " [" + h.Address.String() + "]"
		}
		for _, f := range h.Findings {
			f.Subject = cmp.Or(f.Subject, subject)
			list = append(list, f)
		}
	}
	return list
}

// verdictsOf keeps what each kind of sender decides about each address.
func verdictsOf(hosts []survey.Host) (list []report.SenderHost) {
	for _, h := range hosts[:min(len(hosts), mostHosts)] {
		one := report.SenderHost{MX: h.Host, Domain: h.Domain, Port: h.Port, Verdicts: map[string]report.SenderVerdict{}}
		if h.Address.IsValid() {
			one.Address = h.Address.String()
		}
		for kind, v := range h.Verdicts {
			one.Verdicts[string(kind)] = report.SenderVerdict{Result: string(v.Result), Action: string(v.Action), Type: v.Type, Reason: finding.QuoteLink(v.Reason, finding.MostQuoted)}
		}
		list = append(list, one)
	}
	return list
}

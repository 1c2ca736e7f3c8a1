package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
)

// records looks at the TLSA records of a certificate: whether senders can use them, whether every name server gives them, and whether
// anything would keep mxcert from changing keys. mxcert-dane(7) lists the findings.
type records struct {
	*Doctor
	want     wanted.Certificate
	resolver *resolve.Resolver
	settings dane.Settings
	owners   []dane.Owner

	mu    sync.Mutex
	views []dane.View
}

// tlsaTests returns the tests of TLSA records; none if the configuration leaves them alone.
func (d *Doctor) tlsaTests(want wanted.Certificate, resolver *resolve.Resolver) []test {
	r := &records{Doctor: d, want: want, resolver: resolver, settings: want.DANE(), owners: want.Owners()}
	if r.settings.Mode == dane.Off {
		return nil
	}
	if r.settings.Unset {
		return []test{{id: "tlsa-mode", run: r.unset}}
	}
	return r.tests()
}

func (r *records) tests() []test {
	return []test{
		{id: "tlsa-signed", run: r.signed},
		{id: "tlsa-servers", run: r.servers},
		{id: "tlsa-signatures", run: r.signatures},
		{id: "tlsa-covered", run: r.covered},
		{id: "tlsa-others", run: r.others},
		{id: "tlsa-mx", run: r.mx},
	}
}

// unset asks one question for each owner. Only if some name has records, mxcert judges them, and the other tests have something to say.
func (r *records) unset(ctx context.Context) []finding.Finding {
	for _, o := range r.owners {
		if set := r.resolver.LookTLSA(ctx, o.Name()); len(set.Records) == 0 && set.Err == nil {
			continue
		}
		found := []finding.Finding{well("dane.mode is not set, and %s has TLSA records, or may have some: the mode is check", o.Name())}
		if !r.want.ReuseKey {
			found = append(found, called("tlsa-reuse-key", doubtful("reuse_key: false makes a new key at each renewal, which no TLSA record of %s has: such a renewal is refused", o.Name()).
				Next("write reuse_key: true, and mxcert changes keys with their records")))
		}
		for _, t := range r.tests() {
			for _, f := range t.run(ctx) {
				if f.ID == "" {
					f.ID = t.id
				}
				found = append(found, f)
			}
		}
		return found
	}
	return []finding.Finding{well("no name of the certificate has TLSA records; man mxcert-dane shows how to get them in ten minutes")}
}

// looked looks at all owners, once.
func (r *records) looked(ctx context.Context) []dane.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.views != nil {
		return r.views
	}
	views := make([]dane.View, len(r.owners))
	at := state.Instant{At: time.Now()}
	var all sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i, o := range r.owners {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			views[i] = dane.Look(ctx, r.resolver, o, r.settings, at)
		})
	}
	all.Wait()
	r.views = views
	return views
}

// remembered returns what mxcert remembers about the records; nothing if it cannot be read, which the next pass repairs.
func (r *records) remembered() (s dane.State) {
	if err := r.Runner.Store.Lineage(r.want.Name).TLSA(&s); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return dane.State{}
	}
	return s
}

// changes reports whether mxcert changes keys by itself.
func (r *records) changes() bool {
	return r.settings.Mode == dane.Publish || r.settings.Mode == dane.ByHand
}

// signed reports whether senders can use the records: whether the zone is signed, and whether this host can know it.
func (r *records) signed(ctx context.Context) (found []finding.Finding) {
	for _, v := range r.looked(ctx) {
		if f := r.signedAt(v).About(v.Owner.Host); !slices.ContainsFunc(found, func(g finding.Finding) bool { return g.Message == f.Message }) {
			found = append(found, f)
		}
	}
	return found
}

func (r *records) signedAt(v dane.View) finding.Finding {
	name, set := v.Owner.Name(), v.Recursive
	zone := resolve.PlainName(zoneOf(v))
	switch {
	case v.Err != nil:
		return doubtful("%s: its zone or the servers of it were not found: %s", name, report.OneLine(v.Err.Error())).Next(hintOr(v.Err, "dig +trace "+name+" TLSA"))
	case set.State == resolve.Bogus:
		return bad("%s is bogus (DNSSEC): senders with DANE keep the mail: %s", name, reasonOf(set.Err)).Next(hintOr(set.Err, "delv "+name+" TLSA"))
	case set.Err != nil:
		return doubtful("%s cannot be asked for: %s", name, reasonOf(set.Err)).Next(hintOr(set.Err, "dig "+name+" TLSA"))
	case set.State == resolve.Secure:
		return well("the zone %s is signed, and %s vouches for it", zone, set.Validator)
	case set.Validator == "":
		f := well("no resolver of this host validates DNSSEC: whether senders can use %s TLSA is not known, and mxcert takes it as if they could", name)
		if r.changes() {
			f.Severity = finding.Warning
		}
		return f.Next(strings.Join(strings.Fields(strings.ReplaceAll(resolve.ValidatorHint, "\n", "; ")), " "))
	case r.settings.Mode == dane.Publish:
		return bad("the zone %s is not signed (DNSSEC), so no sender would use TLSA records there, and mxcert publishes none", zone).Next("sign the zone, and have the DS record put into the zone above: man mxcert-dane shows it for BIND, Knot and PowerDNS")
	}
	return doubtful("the zone %s is not signed (DNSSEC), so no sender uses TLSA records there", zone).Next("sign the zone, and have the DS record put into the zone above: man mxcert-dane shows it for BIND, Knot and PowerDNS")
}

// zoneOf is the zone at the end of the way to the records.
func zoneOf(v dane.View) string {
	if n := len(v.Steps); n > 0 && v.Steps[n-1].Served.Zone != "" {
		return v.Steps[n-1].Served.Zone
	}
	return "of " + v.Owner.Host
}

func reasonOf(err *resolve.Error) string {
	if err == nil {
		return "no reason is known"
	}
	return report.OneLine(err.Error())
}

// hintOr is the hint of an error, or a command that shows more.
func hintOr(err error, command string) string {
	if e, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok && e.Hint() != "" {
		return e.Hint()
	}
	return command
}

// orWell is a finding that all is well, if nothing was found and every look was answered. The test of the signature reports those that were
// not.
func (r *records) orWell(ctx context.Context, found []finding.Finding, format string, values ...any) []finding.Finding {
	if len(found) == 0 && slices.ContainsFunc(r.looked(ctx), func(v dane.View) bool { return v.Err != nil }) {
		return nil
	}
	return orWell(found, format, values...)
}

// servers reports name servers that a change of keys would wait for, and those for which it does not wait.
func (r *records) servers(ctx context.Context) (found []finding.Finding) {
	matched := map[string]bool{}
	for _, v := range r.looked(ctx) {
		if fault := v.Fault(); fault != "" && v.Err == nil {
			f := doubtful("%s: %s", v.Owner.Name(), report.OneLine(fault)).About(v.Owner.Name()).Next(digFaulty(v) + " shows its answer; a server that is being retired can go into dane.ignore_servers")
			if r.changes() {
				f.Message += "; until that is over, no change of keys goes on"
			}
			found = append(found, f)
		}
		found = append(found, ignored(v, matched)...)
	}
	for _, s := range r.settings.Ignore {
		if !matched[s] {
			found = append(found, doubtful("dane.ignore_servers lists %s, which is no server of the zones of this certificate", s).About(s).Next("remove "+s+" from dane.ignore_servers"))
		}
	}
	return r.orWell(ctx, found, "every address of every name server answers for %s, and they agree", counted(len(r.owners), "owner of TLSA records", "owners of TLSA records"))
}

// digFaulty is the command that asks a server again: the first that did not answer, or else the first.
func digFaulty(v dane.View) string {
	name, server := v.Owner.Name(), ""
	for _, step := range v.Steps {
		for _, a := range step.Served.Answers {
			if server == "" || a.Fault != "" {
				name, server = resolve.PlainName(step.Name), a.Server.Address
			}
			if a.Fault != "" {
				return digCommand(server, name)
			}
		}
	}
	return digCommand(server, name)
}

func digCommand(server, name string) string {
	switch host, port, err := net.SplitHostPort(server); {
	case err != nil:
		return "dig +dnssec " + name + " TLSA"
	case port != "53":
		return fmt.Sprintf("dig +norecurse +dnssec -p %s @%s %s TLSA", port, host, name)
	default:
		return fmt.Sprintf("dig +norecurse +dnssec @%s %s TLSA", host, name)
	}
}

// addressOf is the IP address of a server.
func addressOf(s resolve.Server) string {
	host, _, _ := net.SplitHostPort(s.Address)
	return host
}

// ignored reports the servers that do not count, with what they answer, and notes which settings name them.
func ignored(v dane.View, matched map[string]bool) (found []finding.Finding) {
	for _, step := range v.Steps {
		for i, a := range step.Served.Answers {
			if i >= len(step.Ignored) || !step.Ignored[i] {
				continue
			}
			matched[resolve.PlainName(a.Server.Host)], matched[addressOf(a.Server)] = true, true
			says := fmt.Sprintf("gives %s", counted(len(a.Records), "record", "records"))
			if a.Fault != "" {
				says = a.Fault
			}
			found = append(found, doubtful("%s is in dane.ignore_servers, so mxcert does not wait for it; for %s it %s", a.Server, resolve.PlainName(step.Name), report.OneLine(says)).
				About(a.Server.String()).Next("senders that ask it may find other records: remove it from the NS records of the zone and of the zone above, then from dane.ignore_servers"))
		}
	}
	return found
}

// signatures reports signatures that expire before a new record could have been held for long enough.
func (r *records) signatures(ctx context.Context) (found []finding.Finding) {
	var first time.Time
	for _, v := range r.looked(ctx) {
		until := v.SignedUntil()
		if until.IsZero() {
			continue
		}
		if first.IsZero() || until.Before(first) {
			first = until
		}
		hold := r.holdOf(v)
		if time.Now().Add(hold).Before(until) {
			continue
		}
		f := doubtful("the signatures on %s expire at %s, before a new record has been held for %s: a change of keys waits until the zone is signed again", v.Owner.Name(), report.Minute(until), finding.Duration(hold))
		if !r.changes() {
			f = doubtful("the signatures on %s expire at %s: if the zone is not signed again before, senders keep the mail", v.Owner.Name(), report.Minute(until))
		}
		found = append(found, f.About(v.Owner.Name()).Next("have the signatures made again earlier (BIND: signatures-refresh of dnssec-policy, Knot: rrsig-refresh); dig +dnssec "+v.Owner.Name()+" TLSA shows their end"))
	}
	if first.IsZero() {
		return r.orWell(ctx, found, "there are no signatures to judge")
	}
	return orWell(found, "the first signature on the records expires at %s, after the hold", report.Minute(first))
}

// holdOf is for how long senders may hold the records of an owner.
func (r *records) holdOf(v dane.View) time.Duration {
	longest := r.settings.TTL
	for _, set := range v.Sets() {
		longest = max(longest, set.TTL)
	}
	return dane.Hold(longest, r.settings)
}

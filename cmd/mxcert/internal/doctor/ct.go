package doctor

import (
	"context"
	"slices"
	"strings"
	"time"

	"mxcert/acme/ct"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
)

const (
	// oldList is how old a log list may get. Chrome does not rely on an older one (googlechrome.github.io/CertificateTransparency).
	oldList = 70 * 24 * time.Hour
	// mostAliens limits the unknown certificates that are shown.
	mostAliens = 5
)

// transparency looks whether unknown certificates would be noticed, and which are known. None of it keeps a certificate from being renewed.
func (d *Doctor) transparency(ctx context.Context) (found []finding.Finding) {
	settings := d.Runner.Host.Transparency()
	if settings.LogList != "" {
		found = append(found, listed(settings.Listed())...)
	}
	if !settings.Watch {
		return orWell(found, "the log list of ct.log_list is in use; nobody watches the logs, because ct.watch is not set")
	}
	store, names := d.Runner.Store, d.Runner.Host.TransparencyNames()
	var certificates []string
	for _, c := range d.Runner.Host.Certificates {
		certificates = append(certificates, c.Name)
	}
	names.FromState(store, certificates)
	sources := settings.Sources(d.Runner.Release)
	for _, s := range sources {
		if round := ct.Round(s, names); round > settings.Interval {
			hint := "set ct.interval to what is possible"
			if s.Name() == "certspotter" && settings.Bare {
				hint = `a token of SSLMate allows more requests: ct: {sources: [{certspotter: {token: "cred:ct"}}]}`
			}
			found = append(found, doubtful("%s can be asked about all names once in %s only, and ct.interval is %s", s.Name(), finding.Duration(round), finding.Duration(settings.Interval)).About(s.Name()).Next(hint))
		}
	}
	memory, err := ct.Read(store)
	if err != nil {
		return append(found, doubtful("what is known about the logs cannot be read: %s", finding.Line(err)).Next(report.HintOf(err)))
	}
	for _, f := range memory.Findings(names, func(string) []string { return nil }, sources, time.Now())[""] {
		found = append(found, called("ct", f))
	}
	found = append(found, d.aliens(ctx, memory, names)...)
	if len(memory.Learned) == 0 && len(found) == 0 && !slices.ContainsFunc(sources, func(s ct.Source) bool { return memory.Failing[s.Name()].Since.IsZero() }) {
		first := memory.Failing[sources[0].Name()]
		return append(found, doubtful("nobody has looked for unknown certificates yet: no source has answered since %s: %s", report.Minute(first.Since), finding.Quote(first.Text, finding.MostQuoted)).
			About(sources[0].Name()).Next("mxcert ct check asks now; the daemon asks again by itself"))
	}
	return orWell(found, "%s", reach(memory, sources, settings.Bare))
}

// listed judges the age of the log list.
func listed(at time.Time, err error) []finding.Finding {
	const hint = "fetch it again: https://www.gstatic.com/ct/log_list/v3/log_list.json"
	switch {
	case err != nil:
		return []finding.Finding{doubtful("ct.log_list cannot be read, so that no SCT is checked: %s", finding.Line(err)).About("ct.log_list").Next(hint)}
	case time.Since(at) > oldList:
		return []finding.Finding{doubtful("the log list of ct.log_list is of %s: SCTs of newer logs cannot be checked", report.Minute(at)).About("ct.log_list").Next(hint)}
	}
	return nil
}

// reach says who was asked.
func reach(memory *ct.Memory, sources []ct.Source, bare bool) string {
	var answer, silent []string
	for _, s := range sources {
		name := s.Name()
		if name == "certspotter" && bare {
			name += " (without a token)"
		}
		if _, fails := memory.Failing[s.Name()]; fails {
			silent = append(silent, name)
		} else {
			answer = append(answer, name)
		}
	}
	text := "no unknown certificate is in the logs, as far as " + strings.Join(answer, " and ") + map[bool]string{true: " knows", false: " know"}[len(answer) == 1]
	switch {
	case len(memory.Learned) == 0:
		text = "the first look at the logs has not ended; " + strings.Join(answer, " and ") + map[bool]string{true: " is", false: " are"}[len(answer) == 1] + " asked"
	case len(answer) == 0:
		text = "no unknown certificate is in the logs, as far as was known before"
	}
	if len(silent) > 0 {
		text += "; " + strings.Join(silent, " and ") + " gave no answer"
	}
	return text
}

// aliens shows certificates that mxcert did not order, with the next step that the CAA records ask for.
func (d *Doctor) aliens(ctx context.Context, memory *ct.Memory, names ct.Names) (found []finding.Finding) {
	records := ct.CAA(d.Runner.Store, d.Runner.Host.Directories)
	for _, u := range memory.Unknown {
		shared := names.Shared(u.Entry)
		if len(shared) == 0 || !u.Told(time.Now()) {
			continue
		}
		if len(found) == mostAliens {
			return append(found, doubtful("there are more unknown certificates in the logs").Next("mxcert ct check"))
		}
		name := finding.Quote(shared[0], 255)
		found = append(found, doubtful("a certificate for %s that mxcert did not order is in the logs: issuer %s, serial %s", name, finding.Quoted(u.Issuer, finding.MostQuoted), finding.Quote(u.ID(), 80)).
			About(name).Next("mxcert ct check shows it; "+d.restrict(ctx, shared[0], records)))
	}
	return found
}

// restrict returns the next step about the CAA records of a name for which somebody else got a certificate.
func (d *Doctor) restrict(ctx context.Context, name string, records func(string) []string) string {
	const rule = "let only your account order (RFC 8657)"
	set, err := d.resolver().CAA(ctx, strings.TrimPrefix(name, "*."))
	if err == nil && bound(set.Records) {
		return "its CAA records name an account already: if that is yours, ask the CA how this certificate was validated"
	}
	if list := records(name); len(list) > 0 {
		return rule + ": " + strings.Join(list, "; ")
	}
	return rule + ": CAA records with accounturi; mxcert account shows the account when there is one"
}

// bound reports whether all CAA records that let a CA issue name an account, and there are such records.
func bound(set []resolve.CAA) bool {
	issue := slices.DeleteFunc(slices.Clone(set), func(r resolve.CAA) bool {
		return r.Tag != "issue" && r.Tag != "issuewild" || strings.HasPrefix(strings.TrimSpace(r.Value), ";")
	})
	return len(issue) > 0 && !slices.ContainsFunc(issue, func(r resolve.CAA) bool { return !strings.Contains(strings.ToLower(r.Value), "accounturi") })
}

// resolver is that of the first certificate.
func (d *Doctor) resolver() *resolve.Resolver { return d.Runner.Host.Certificates[0].Resolver() }

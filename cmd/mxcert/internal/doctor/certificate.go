package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/preflight"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
	"mxcert/deploy/starttls"
	systemd "mxcert/hooks/unit"
)

// certificateTests returns the tests of one certificate.
func (d *Doctor) certificateTests(want wanted.Certificate) []test {
	want, _, _ = pass.WithFound(want, d.Runner.Store.Lineage(want.Name))
	resolver := want.Resolver()
	tests := []test{
		{id: "certificate", run: func(context.Context) []finding.Finding { return d.stored(want) }},
		{id: "dns-provider", run: func(ctx context.Context) []finding.Finding { return d.provider(ctx, want) }, grace: d.providerGrace()},
		{id: "preflight", run: func(ctx context.Context) []finding.Finding { return d.preflight(ctx, want, resolver) }},
		{id: "deploy", run: func(ctx context.Context) []finding.Finding { return d.places(ctx, want) }},
	}
	for _, unit := range want.Units(wanted.Always, wanted.Auto) {
		tests = append(tests, test{id: "unit", run: func(ctx context.Context) []finding.Finding { return d.unit(ctx, unit) }})
	}
	tests = append(tests, test{id: "endpoint", run: func(ctx context.Context) []finding.Finding { return d.endpoints(ctx, want) }})
	tests = append(tests, d.mailTests(want)...)
	tests = append(tests, d.tlsaTests(want, resolver)...)
	for i := range tests {
		tests[i].certificate = want.Name
	}
	return tests
}

// stored looks at the issued certificates and at the last failure.
func (d *Doctor) stored(want wanted.Certificate) []finding.Finding {
	have, err := issued.Look(d.Runner.Store.Lineage(want.Name), want.Keys)
	if err != nil {
		return faults(err, "see the check `state` above")
	}
	var found []finding.Finding
	for _, note := range have.Notes {
		found = append(found, doubtful("%s", note).Next("the next mxcert renew repairs it, and says so"))
	}
	for i, key := range want.Keys {
		found = append(found, lifetime(want, have, i, key))
	}
	for _, l := range pass.Describe(want, have).LeftOut {
		found = append(found, doubtful("%s is left out since %s: %s", l.Name, report.Minute(l.Since), l.Reason).About(l.Name).
			Next(fmt.Sprintf("mxcert tries it again at %s; mxcert renew %s --now tries at once", report.Minute(l.NextTry), want.Name)))
	}
	if f := have.Record.Failure; f != nil {
		found = append(found, doubtful("the last pass failed at %s, stage %s: %s", report.Minute(f.At), f.Stage, report.OneLine(f.Message)).Next(f.Hint))
	}
	return found
}

// lifetime reports how long the certificate of the i-th key type is still valid.
func lifetime(want wanted.Certificate, have *issued.Lineage, i int, key bundle.KeyType) finding.Finding {
	b := have.Bundles[i]
	inFlight, _ := have.InFlight(key, want.Names, want.Directories)
	const hint = "run mxcert renew: it says what prevents the renewal"
	switch {
	case b == nil && inFlight:
		return well("no %s certificate yet; an order is under way, and the next pass resumes it", key)
	case b == nil:
		return well("no %s certificate yet", key)
	case time.Now().After(b.NotAfter()):
		return bad("the %s certificate (serial %s) has expired: %s", key, b.Serial(), report.Until(b.NotAfter())).Next(hint)
	case have.InDanger(i):
		return doubtful("the %s certificate (serial %s) expires %s and should have been renewed", key, b.Serial(), report.Until(b.NotAfter())).Next(hint)
	}
	return well("the %s certificate (serial %s) is valid until %s, its renewal is due %s", key, b.Serial(), report.Minute(b.NotAfter()), report.Until(have.RenewalTime(i, want.Windows)))
}

// provider returns the result of [Provider]: the daemon's if one answers, because only the service may have the secrets.
func (d *Doctor) provider(ctx context.Context, want wanted.Certificate) []finding.Finding {
	if seen := d.service(ctx); seen != nil {
		return seen.Providers[want.Name]
	}
	for _, account := range want.Accounts(want.Resolver()) {
		if _, err := account.Solver(); err != nil && d.Held != "" {
			return []finding.Finding{doubtful("%s was not tested: systemd hands its secrets only to the service", account).About(account.String()).Next(d.Held)}
		}
	}
	if _, err := want.Publisher(); err != nil && d.Held != "" {
		return []finding.Finding{called("tlsa-write", doubtful("the service for TLSA records was not tested: systemd hands its secret only to mxcert's service").Next(d.Held))}
	}
	return Provider(ctx, want, d.Online)
}

// providerGrace leaves the test of a provider the time to remove the records that it has made.
func (d *Doctor) providerGrace() time.Duration {
	if d.Online {
		return dnsprovider.CleanUpTime + 2*grace
	}
	return grace
}

// preflight runs the checks that a pass also runs before an order. A CA that does not answer is reported with the CA. What is wrong only with
// optional names is a warning: an order would leave them out.
func (d *Doctor) preflight(ctx context.Context, want wanted.Certificate, resolver *resolve.Resolver) []finding.Finding {
	look := func(names []string) []finding.Finding {
		found := d.Runner.CAs.Preflight(ctx, preflight.Request{Names: names, Profile: want.Profile, Resolver: resolver, Require: want.Require})
		return slices.DeleteFunc(found, func(f finding.Finding) bool { return f.ID == "ca" })
	}
	all := look(want.Names)
	if len(want.Optional) == 0 || finding.Worst(all) != finding.Error {
		return all
	}
	found := look(want.Required())
	for _, f := range all {
		if slices.Contains(found, f) {
			continue
		}
		if f.Severity == finding.Error && f.ID != "profile" {
			f.Severity = finding.Warning
			f.Message += "; this concerns optional names only, and an order leaves them out"
		}
		found = append(found, f)
	}
	return found
}

// places checks that the files could be written.
func (d *Doctor) places(ctx context.Context, want wanted.Certificate) []finding.Finding {
	record, _, err := d.Runner.Store.Lineage(want.Name).Look()
	if err != nil {
		return nil // the test of the certificate reports it
	}
	notes, err := d.Runner.Helper.Check(ctx, want, helper.KnownFiles(record), nil, false)
	found := faults(err, "see deploy of the configuration")
	for _, note := range notes {
		found = append(found, doubtful("%s", report.OneLine(note)))
	}
	if err == nil && len(want.Places) == 0 {
		return append(found, well("nothing is deployed: the certificate stays in the state directory"))
	}
	if err == nil {
		found = append(found, well("every file of %d %s can be written", len(want.Places), report.Plural(len(want.Places), "target")))
	}
	return found
}

func (d *Doctor) unit(ctx context.Context, unit string) []finding.Finding {
	err := systemd.Check(ctx, unit)
	switch {
	case err == nil:
		return []finding.Finding{well("%s runs and can be reloaded", unit).About(unit)}
	case systemd.NotRunning(err):
		return []finding.Finding{doubtful("%s", report.OneLine(err.Error())).About(unit).Next(report.HintOf(err))}
	}
	return []finding.Finding{bad("%s", report.OneLine(err.Error())).About(unit).Next(report.HintOf(err))}
}

// endpoints makes handshakes with all endpoints and reports what is served now: for each key type that has a certificate, or
// once if there is no certificate yet.
func (d *Doctor) endpoints(ctx context.Context, want wanted.Certificate) []finding.Finding {
	have, err := issued.Look(d.Runner.Store.Lineage(want.Name), want.Keys)
	if err != nil {
		return nil // the test of the certificate reports it
	}
	probes := pass.Probes(want, have.Bundles)
	if len(probes) == 0 {
		for _, address := range want.Endpoints() {
			probes = append(probes, served.Probe{Address: address, ServerName: want.ServerName(), Key: "any", Ask: starttls.Any})
		}
	}
	if len(probes) == 0 {
		return []finding.Finding{well("no endpoint configured, so mxcert cannot tell whether the certificate is served")}
	}
	var found []finding.Finding
	for _, r := range served.Look(ctx, probes) {
		if r.Err != nil {
			found = append(found, endpointFault(r.Err).About(r.Address).Next(report.HintOf(r.Err)))
		} else {
			found = append(found, shown(r))
		}
	}
	return found
}

// endpointFault returns an error, because the proof at the end of a renewal would fail. A server without TLS is only worth a
// warning: it may wait for its first certificate.
func endpointFault(err error) finding.Finding {
	if kind := report.KindOf(err); kind == starttls.KindSTARTTLSNotSupported || kind == starttls.KindTLSUnavailable {
		return doubtful("%s", report.OneLine(err.Error()))
	}
	return bad("%s", report.OneLine(err.Error()))
}

// shown reports what an endpoint serves.
func shown(r served.Result) finding.Finding {
	leaf := r.Shown.Chain[0]
	text := fmt.Sprintf("%s serves the certificate with serial %s, valid until %s", r.Address, r.Serial, report.Minute(leaf.NotAfter))
	if subject := leaf.Subject.CommonName; subject != "" {
		text = fmt.Sprintf("%s (%s)", text, finding.Quoted(subject, 80))
	}
	f := well("%s", text)
	switch {
	case r.Want != nil && !r.Matches:
		f = doubtful("%s, but serial %s is current", text, r.Want.Serial()).Next("mxcert renew puts the current one in service")
	case time.Now().After(leaf.NotAfter):
		f = doubtful("%s: it has expired", text).Next("mxcert renew")
	case r.Want == nil:
		f = well("%s; mxcert has not issued one yet", text)
	}
	return f.About(r.Address)
}

package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/configs"
	"mxcert/deploy/starttls"
	"mxcert/hooks/unit"
)

// certificateLooks are the tests of one certificate.
func (d *doctor) certificateLooks(c configs.Certificate) []doctorLook {
	shared := d.passOf(c).resolver()
	looks := []doctorLook{
		{id: "certificate", run: func(ctx context.Context) []doctorCheck { return d.lookAtStored(ctx, c) }},
		{id: "dns-provider", run: func(ctx context.Context) []doctorCheck { return d.lookAtProvider(ctx, c, shared) }},
		{id: "preflight", run: func(ctx context.Context) []doctorCheck { return d.preflight(ctx, c, shared) }},
		{id: "deploy", run: func(ctx context.Context) []doctorCheck { return d.lookAtPlaces(ctx, c) }},
	}
	for _, unit := range d.passOf(c).units("always", "auto") {
		looks = append(looks, doctorLook{id: "unit", run: func(ctx context.Context) []doctorCheck { return d.lookAtUnit(ctx, unit) }})
	}
	looks = append(looks, doctorLook{id: "endpoint", run: func(ctx context.Context) []doctorCheck { return d.lookAtEndpoints(ctx, c) }})
	for i := range looks {
		looks[i].certificate = c.Name
	}
	return looks
}

// passOf is a pass that only looks. Each look has its own.
func (d *doctor) passOf(c configs.Certificate) *pass {
	return &pass{world: d.world, certificate: c, options: passOptions{dryRun: true}, lineage: d.world.store.Lineage(c.Name), say: func(string, string) {}}
}

// lookAtStored tells of the certificates that were issued, and of the last failure.
func (d *doctor) lookAtStored(ctx context.Context, c configs.Certificate) []doctorCheck {
	p := d.passOf(c)
	if err := p.load(ctx); err != nil {
		return faults(err, "see what is said under state")
	}
	var checks []doctorCheck
	for _, w := range p.result.Warnings {
		checks = append(checks, doubtful("%s", w).because("the next mxcert renew repairs it, and says so"))
	}
	for i, key := range p.keys() {
		checks = append(checks, p.stored(i, key))
	}
	if f := p.record.Failure; f != nil {
		checks = append(checks, doubtful("the last pass failed at %s, stage %s: %s", minute(f.At), f.Stage, oneLine(f.Message)).because(f.Hint))
	}
	return checks
}

func (p *pass) stored(i int, key bundle.KeyType) doctorCheck {
	b := p.bundles[i]
	switch {
	case b == nil && p.unfinished(key):
		return well("no %s certificate yet; an order is under way, and the next pass goes on with it", key)
	case b == nil:
		return well("no %s certificate yet", key)
	case time.Now().After(b.NotAfter()):
		return bad("the %s certificate (serial %s) has expired: %s", key, b.Serial(), until(b.NotAfter())).because("mxcert renew says what keeps it from being renewed")
	case p.inDanger(i):
		return doubtful("the %s certificate (serial %s) expires %s and should have been renewed", key, b.Serial(), until(b.NotAfter())).because("mxcert renew says what keeps it from being renewed")
	}
	return well("the %s certificate (serial %s) is valid until %s, its renewal is due %s", key, b.Serial(), minute(b.NotAfter()), until(p.renewalTime(p.record.Slot(key), b)))
}

// lookAtProvider sets the DNS provider up, and asks it for its rights where it can be asked.
func (d *doctor) lookAtProvider(ctx context.Context, c configs.Certificate, resolver *resolve.Resolver) []doctorCheck {
	name := c.DNS.Provider
	solver, err := d.passOf(c).solver()
	if err != nil {
		return faults(err, "see what is said under secrets and configuration")
	}
	checker, ok := solver.(dnsprovider.Checker)
	if !ok {
		return []doctorCheck{well("%s is set up; whether it makes records shows at the first order", name).about(name)}
	}
	var records []dnsprovider.Record
	for _, domain := range c.Domains {
		domain = strings.TrimPrefix(domain, "*.")
		if place, err := resolver.Locate(ctx, "_acme-challenge."+domain); err == nil { // where it fails, the preflight says why
			records = append(records, dnsprovider.Record{Place: place, Domain: domain})
		}
	}
	if len(records) == 0 {
		return []doctorCheck{doubtful("%s is set up; it was not asked for its rights, because no place of a record is known", name).about(name).because("see what is said under challenge and dnssec")}
	}
	if err := checker.Check(ctx, records); err != nil {
		return faults(err, "see the name server's log")
	}
	return []doctorCheck{well("%s takes the key, and lets it change the records of every name", name).about(name)}
}

// preflight is what is looked at before an order too. That a CA does not answer is told with the CA.
func (d *doctor) preflight(ctx context.Context, c configs.Certificate, resolver *resolve.Resolver) []doctorCheck {
	var checks []doctorCheck
	for _, f := range d.world.cas.Preflight(ctx, acme.PreflightRequest{Names: c.Domains, Profile: d.config.ACME.Profile, Resolver: resolver, Require: require(c)}) {
		if f.ID != "ca" {
			checks = append(checks, doctorCheck{ID: f.ID, Severity: string(f.Severity), Name: f.Name, Message: f.Message, Hint: f.Hint})
		}
	}
	return checks
}

// lookAtPlaces finds out whether the files could be written.
func (d *doctor) lookAtPlaces(ctx context.Context, c configs.Certificate) []doctorCheck {
	p := d.passOf(c)
	if err := p.checkPlaces(ctx); err != nil {
		return faults(err, "see deploy of the configuration")
	}
	if len(c.Deploy) == 0 {
		return []doctorCheck{well("nothing is deployed: the certificate stays in the state directory")}
	}
	return []doctorCheck{well("every file of %d %s can be written", len(c.Deploy), plural(len(c.Deploy), "target"))}
}

func (d *doctor) lookAtUnit(ctx context.Context, name string) []doctorCheck {
	err := d.world.reloader.check(ctx, name)
	switch {
	case err == nil:
		return []doctorCheck{well("%s runs and can be reloaded", name).about(name)}
	case unit.NotRunning(err):
		return []doctorCheck{doubtful("%s", oneLine(err.Error())).about(name).because(hintOf(err))}
	}
	return []doctorCheck{bad("%s", oneLine(err.Error())).about(name).because(hintOf(err))}
}

// lookAtEndpoints shakes hands everywhere and tells what is served now.
func (d *doctor) lookAtEndpoints(ctx context.Context, c configs.Certificate) []doctorCheck {
	looks := localLooks(d.world.store, c, d.world.chainRoots)
	if len(looks) == 0 {
		return []doctorCheck{well("no endpoint is configured: that the files hold the certificate is the last that is known")}
	}
	type result struct{ checks []doctorCheck }
	results := make([]result, len(looks))
	done := make(chan struct{})
	for i, l := range looks {
		go func() {
			results[i].checks = l.diagnose(ctx)
			done <- struct{}{}
		}()
	}
	var checks []doctorCheck
	for range looks {
		<-done
	}
	for _, r := range results {
		checks = append(checks, r.checks...)
	}
	return checks
}

// diagnose looks at one endpoint: with each key type that has a certificate, or once where there is none yet.
func (l look) diagnose(ctx context.Context) []doctorCheck {
	issued := l
	issued.keys, issued.labels = nil, nil
	for i, label := range l.labels {
		if l.want[label] != nil {
			issued.keys, issued.labels = append(issued.keys, l.keys[i]), append(issued.labels, label)
		}
	}
	if len(issued.keys) == 0 {
		issued.keys, issued.labels = []starttls.KeyType{starttls.Any}, []string{"any"}
	}
	var checks []doctorCheck
	for i, ask := range issued.keys {
		shake, result, err := issued.shake(ctx, ask, issued.labels[i])
		if err != nil {
			checks = append(checks, endpointFault(err).about(l.address).because(hintOf(err)))
			continue
		}
		checks = append(checks, issued.serves(shake, result.Chain[0].Subject.CommonName, result.Chain[0].NotAfter))
	}
	return checks
}

// endpointFault is an error, because the proof at the end of a renewal would fail; a server without TLS is to get it by
// the certificate that is not there yet.
func endpointFault(err error) doctorCheck {
	if kind := kindOf(err); kind == "starttls-not-supported" || kind == "tls-unavailable" {
		return doubtful("%s", oneLine(err.Error()))
	}
	return bad("%s", oneLine(err.Error()))
}

// serves says what an endpoint shows.
func (l look) serves(shake handshakeReport, subject string, notAfter time.Time) doctorCheck {
	text := fmt.Sprintf("%s serves the certificate with serial %s, valid until %s", l.address, shake.Serial, minute(notAfter))
	if subject != "" {
		text = fmt.Sprintf("%s (%.80q)", text, subject)
	}
	c := well("%s", text)
	switch want := l.want[shake.Key]; {
	case want != nil && !shake.Matches:
		c = doubtful("%s, but serial %s is current", text, want.Serial()).because("mxcert renew puts the current one in service")
	case time.Now().After(notAfter):
		c = doubtful("%s: it has expired", text).because("mxcert renew")
	case want == nil:
		c = well("%s; mxcert has issued none yet", text)
	}
	return c.about(l.address)
}

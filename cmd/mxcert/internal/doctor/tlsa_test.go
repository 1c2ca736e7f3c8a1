package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/deploy/dane"
)

// withDANE sets the section of the certificate.
func (h *host) withDANE(settings string) *host {
	h.t.Helper()
	h.edit("    domains:", "    dane: "+settings+"\n    domains:")
	return h
}

// records is the test of the TLSA records, as the configuration is now.
func (h *host) records() *records {
	h.t.Helper()
	d := h.doctor()
	want := d.Certificates[0]
	return &records{Doctor: d, want: want, resolver: want.Resolver(), settings: want.DANE(), owners: want.Owners()}
}

// signWorld makes the lab's zone, and the root, look signed to a validating resolver.
func (h *host) signWorld() {
	h.t.Helper()
	h.check(h.World.AddZone(".", "@ NS ns1.example.org."))
	h.check(h.World.SetTrust(".", nameserver.Secure))
	h.check(h.World.SetTrust(lab.Zone, nameserver.Secure))
}

var digest = strings.Repeat("ab", 32) //nolint:gochecknoglobals // of a key that nobody has

// Without a mode, one question for each name is all, unless there are records.
func TestTLSAWithoutMode(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.signWorld()
	as("tlsa-mode", h.records().unset(t.Context())).expect(t, "no records", 1, "ok", "tlsa-mode", "no name of the certificate has TLSA records")
	h.check(h.World.Add("_25._tcp.mx.example.org. TLSA 3 1 1 " + digest))
	got := as("tlsa-mode", h.records().unset(t.Context()))
	if !got.has("tlsa-mode", "ok", "the mode is check") || !got.has("tlsa-signed", "ok", "") && !got.has("tlsa-signed", "warning", "") {
		t.Errorf("with records: %s", got)
	}
	h.edit("    domains:", "    reuse_key: false\n    domains:")
	if got := as("tlsa-mode", h.records().unset(t.Context())); !got.has("tlsa-reuse-key", "warning", "write reuse_key: true") {
		t.Errorf("with new keys at each renewal: %s", got)
	}
	h = newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE(`{mode: "off"}`)
	for _, c := range h.doctor().certificateTests(h.want()) {
		if strings.HasPrefix(c.id, "tlsa-") {
			t.Errorf("mode off has the test %s", c.id)
		}
	}
}

// The state of the zone decides whether publication makes sense.
func TestTLSASigned(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE("{mode: publish}")
	look := func(set resolve.Set[resolve.TLSA], err error) checks {
		r := h.records()
		r.views = []dane.View{{Owner: r.owners[0], Recursive: set, Err: err, Steps: []dane.Step{{Served: resolve.Served[resolve.TLSA]{Delegation: resolve.Delegation{Zone: "example.org."}}}}}}
		return as("tlsa-signed", r.signed(t.Context()))
	}
	answer := func(a resolve.Answer) resolve.Set[resolve.TLSA] { return resolve.Set[resolve.TLSA]{Answer: a} }
	secure := answer(resolve.Answer{State: resolve.Secure, Validator: "127.0.0.1"})
	insecure := answer(resolve.Answer{State: resolve.Insecure, Validator: "127.0.0.1"})
	nobody := answer(resolve.Answer{State: resolve.Insecure})
	bogus := answer(resolve.Answer{State: resolve.Bogus, Err: &resolve.Error{Name: "_25._tcp.mx.example.org", Type: "TLSA", Reason: "the signature has expired"}})
	failed := answer(resolve.Answer{State: resolve.Failed, Err: &resolve.Error{Name: "_25._tcp.mx.example.org", Type: "TLSA", Reason: "SERVFAIL"}})
	look(secure, nil).expect(t, "signed", 1, "ok", "tlsa-signed", "the zone example.org is signed, and 127.0.0.1 vouches for it")
	look(insecure, nil).expect(t, "not signed", 1, "error", "tlsa-signed", "mxcert publishes none")
	look(nobody, nil).expect(t, "nobody validates", 1, "warning", "tlsa-signed", "apt install unbound dns-root-data")
	look(bogus, nil).expect(t, "bogus", 1, "error", "tlsa-signed", "senders with DANE keep the mail")
	look(failed, nil).expect(t, "an error", 1, "warning", "tlsa-signed", "SERVFAIL")
	look(secure, errors.New("too many aliases")).expect(t, "no zone", 1, "warning", "tlsa-signed", "too many aliases")
	h.edit("{mode: publish}", "{mode: check}")
	look(insecure, nil).expect(t, "check, not signed", 1, "warning", "tlsa-signed", "no sender uses TLSA records there")
	look(nobody, nil).expect(t, "check, nobody validates", 1, "ok", "tlsa-signed", "takes it as if they could")
}

// Servers that do not count stay visible, and a setting that names none is a mistake.
func TestTLSAIgnoredServers(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE("{mode: gate, ignore_servers: [ns9.example.net, 192.0.2.9, ns8.example.net]}")
	r := h.records()
	server := func(host, address string) resolve.Authoritative[resolve.TLSA] {
		return resolve.Authoritative[resolve.TLSA]{Server: resolve.Server{Host: host, Address: address}}
	}
	silent := server("ns1.example.net", "192.0.2.9:53")
	silent.Fault = "it does not answer"
	served := resolve.Served[resolve.TLSA]{Answers: []resolve.Authoritative[resolve.TLSA]{server("ns1.example.net", "192.0.2.1:53"), server("ns9.example.net", "192.0.2.2:53"), silent}}
	r.views = []dane.View{{Owner: r.owners[0], Steps: []dane.Step{{Name: "_25._tcp.mx.example.org.", Served: served, Ignored: []bool{false, true, true}}}}}
	got := as("tlsa-servers", r.servers(t.Context()))
	for _, says := range []string{"ns9.example.net [192.0.2.2:53] is in dane.ignore_servers", "for _25._tcp.mx.example.org it gives 0 records", "ns8.example.net, which is no server of the zones"} {
		if !got.has("tlsa-servers", "warning", says) {
			t.Errorf("does not say %q: %s", says, got)
		}
	}
	if len(got) != 3 {
		t.Errorf("want three findings: %s", got)
	}
	if command := digFaulty(r.views[0]); command != "dig +norecurse +dnssec @192.0.2.9 _25._tcp.mx.example.org TLSA" {
		t.Error(command)
	}
	if command := digCommand("[2001:db8::1]:5353", "x.example"); command != "dig +norecurse +dnssec -p 5353 @2001:db8::1 x.example TLSA" {
		t.Error(command)
	}
}

// Records at other ports, below the target of an alias, and ports that nothing proves.
func TestTLSACovered(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE("{mode: check}")
	h.signWorld()
	look := func() checks {
		r := h.records()
		r.views = []dane.View{{Owner: r.owners[0], Err: errors.New("not of interest here")}}
		return as("tlsa-covered", r.covered(t.Context()))
	}
	look().expect(t, "all is well", 1, "ok", "tlsa-covered", "cover all TLSA records")
	h.check(h.World.Add("_465._tcp.mx.example.org. TLSA 3 1 1 " + digest))
	look().expect(t, "another port", 1, "warning", "tlsa-covered", "write dane: {ports: [25, 465]}")
	h.edit("{mode: check}", "{mode: gate, ports: [25, 465, 587]}")
	got := look()
	if !got.has("tlsa-covered", "warning", "no endpoint proves which key port 587 serves") || !got.has("tlsa-covered", "warning", `"127.0.0.1:587"`) {
		t.Errorf("a port without an endpoint: %s", got)
	}
}

// An alias leads senders to other records first.
func TestTLSAOfAlias(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE("{mode: check}")
	h.signWorld()
	h.check(h.World.Add("alias.example.org. CNAME target.example.org.", "target.example.org. A 192.0.2.1"))
	h.edit("domains: [", "domains: [alias.example.org, ")
	look := func() checks { return as("tlsa-covered", h.records().aliases(t.Context())) }
	if got := look(); len(got) != 0 {
		t.Errorf("no records at the target: %s", got)
	}
	h.check(h.World.Add("_25._tcp.target.example.org. TLSA 3 1 1 " + digest))
	look().expect(t, "records at the target", 1, "warning", "tlsa-covered", "add target.example.org to domains")
}

// Mail domains without signatures make the records useless for their mail.
func TestTLSAOfMailDomains(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE("{mode: check}")
	h.signWorld()
	look := func(domains ...string) checks {
		r := h.records()
		r.want.MailDomains = domains
		return as("tlsa-mx", r.mx(t.Context()))
	}
	look().expect(t, "none", 1, "ok", "tlsa-mx", "mxcert verify --domain DOMAIN shows it")
	look("example.org").expect(t, "signed", 1, "ok", "tlsa-mx", "are signed")
	h.check(h.World.SetTrust(lab.OtherZone, nameserver.Insecure))
	look("example.org", "example.com").expect(t, "one that is not signed", 1, "warning", "tlsa-mx", "sign the zone of example.com")
	h.check(h.World.SetTrust(lab.OtherZone, nameserver.Bogus))
	look("example.com").expect(t, "bogus", 1, "error", "tlsa-mx", "bogus")
}

// service is a publisher that answers as a test says.
type service struct {
	probe, add, remove error
	holds              []resolve.TLSA
	keeps              bool
	at                 []dane.Place
}

func (s *service) List(context.Context, dane.Place) ([]resolve.TLSA, time.Duration, error) {
	return s.holds, time.Minute, nil
}

func (s *service) Add(_ context.Context, at dane.Place, records []resolve.TLSA, _ time.Duration) error {
	if s.at = append(s.at, at); s.add == nil {
		s.holds = append(s.holds, records...)
	}
	return s.add
}

func (s *service) Remove(_ context.Context, at dane.Place, _ []resolve.TLSA) error {
	if s.at = append(s.at, at); s.remove == nil && !s.keeps {
		s.holds = nil
	}
	return s.remove
}

func (s *service) Probe(context.Context, dane.Place) error { return s.probe }

func (s *service) String() string { return "the service" }

// What a service says about its rights is reported; with --online a record below a random name comes and goes.
func TestTLSAPublisher(t *testing.T) {
	t.Parallel()
	owner, place := dane.Owner{Host: "mx.example.org", Port: 25}, dane.Place{Zone: "example.org.", Name: "_25._tcp.mx.example.org."}
	write := func(s *service, at dane.Place) checks {
		f, may := mayWrite(t.Context(), s, owner, at)
		if may != (s.probe == nil) {
			t.Errorf("may write: %v", may)
		}
		return as("", []finding.Finding{f})
	}
	write(&service{}, place).expect(t, "may", 1, "ok", "tlsa-write", "the service would let mxcert write the TLSA records of _25._tcp.mx.example.org")
	write(&service{}, dane.Place{Name: "mx.dane.example.net."}).expect(t, "behind an alias", 1, "ok", "tlsa-write", "of mx.dane.example.net, to which _25._tcp.mx.example.org leads,")
	write(&service{probe: errors.New("REFUSED")}, place).expect(t, "may not", 1, "error", "tlsa-write", "REFUSED")

	refused := errors.New("no such right")
	for _, tt := range []struct {
		what     string
		service  service
		probed   bool
		severity finding.Severity
		says     string
	}{
		{"works", service{}, false, "ok", "took a test record at _25._tcp.mxcert-check-"},
		{"refuses, and the probe could not know", service{add: refused}, false, "warning", "no such right"},
		{"refuses, and the probe knows better", service{add: refused}, true, "ok", "nothing was written"},
		{"does not remove", service{remove: refused}, false, "warning", "remove it by hand: _25._tcp.mxcert-check-"},
		{"says that it removes", service{keeps: true}, true, "warning", "but lists it"},
	} {
		s := tt.service
		as("", []finding.Finding{tried(t.Context(), &s, place, tt.probed)}).expect(t, tt.what, 1, tt.severity, "tlsa-online", tt.says)
		if len(s.at) != 2 || s.at[0] != s.at[1] || !strings.HasSuffix(s.at[0].Name, ".example.org.") || s.at[0].Name == place.Name {
			t.Errorf("%s: written at %v", tt.what, s.at)
		}
	}
}

// In a signed world, with real looks and the real service: all is well, and then each fault is found.
func TestTLSAInASignedWorld(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Signed: true, Secondaries: 1}, lab.ConfigOptions{}).withDANE("{mode: publish}")
	look := func() (found checks) {
		r := h.records()
		for _, tt := range r.tests() {
			found = append(found, as(tt.id, tt.run(t.Context()))...)
		}
		return found
	}
	write := func(online bool) checks {
		want := h.want()
		return as("", published(t.Context(), want, want.Resolver(), online))
	}
	// The lab's mail server is not at port 25, so that alone is a warning.
	if got := look(); got.count(finding.OK) != len(got)-1 || !got.has("tlsa-covered", "warning", "no endpoint proves") || !got.has("tlsa-signed", "ok", "the zone example.org is signed") || !got.has("tlsa-servers", "ok", "every address") || !got.has("tlsa-signatures", "ok", "after the hold") {
		t.Errorf("nothing published: %s", got)
	}
	if got := write(true); got.count(finding.OK) != len(got) || !got.has("tlsa-write", "ok", "_25._tcp.mx.example.org") || !got.has("tlsa-online", "ok", "took a test record at _25._tcp.mxcert-check-") {
		t.Errorf("writing: %s", got)
	}

	h.renew()
	h.check(h.World.Add("_25._tcp.mx.example.org. TLSA 3 1 1 "+digest, "_25._tcp.mx.example.org. TLSA 1 1 1 "+digest, "_25._tcp.mx.example.org. TLSA 3 1 1 cd"))
	if got := look(); !got.has("tlsa-others", "warning", "fits no certificate of this host") || !got.has("tlsa-others", "warning", "senders ignore the record 1 1 1") || !got.has("tlsa-others", "warning", "senders ignore the record 3 1 1 cd") {
		t.Errorf("records of others: %s", got)
	}
	h.secret("d3JvbmcgYnV0IGxvbmcgZW5vdWdoIHRvIGJlIGEga2V5")
	if got := write(false); !got.has("tlsa-write", "error", "would not let mxcert write the TLSA records of _25._tcp.mx.example.org") {
		t.Errorf("a wrong secret: %s", got)
	}

	secondary := h.Secondaries[0]
	secondary.SetFaults(nameserver.Faults{SignedUntil: time.Now().Add(time.Hour)})
	if got := look(); !got.has("tlsa-signatures", "warning", "a change of keys waits until the zone is signed again") {
		t.Errorf("signatures that end too soon: %s", got)
	}
	secondary.SetFaults(nameserver.Faults{Unsigned: true})
	if got := look(); !got.has("tlsa-servers", "warning", "no change of keys goes on") || !got.has("tlsa-servers", "warning", "dig +norecurse +dnssec") {
		t.Errorf("a server without signatures: %s", got)
	}
	h.edit("{mode: publish}", "{mode: publish, ignore_servers: [ns2.example.org]}")
	if got := look(); !got.has("tlsa-servers", "warning", "is in dane.ignore_servers, so mxcert does not wait for it") || got.has("tlsa-servers", "warning", "no change of keys goes on") {
		t.Errorf("an ignored server: %s", got)
	}
}

// The records of a wildcard must not be hidden by one of mxcert, and where an alias leads is where senders look.
func TestTLSAPlace(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Signed: true}, lab.ConfigOptions{}).withDANE("{mode: publish}")
	h.check(h.World.Add("*.host7.example.org. CNAME dane.example.org.", "*._tcp.mx.example.org. TLSA 3 1 1 "+digest))
	want := h.want()
	got := as("tlsa-write", published(t.Context(), want, want.Resolver(), false))
	if !got.has("tlsa-write", "warning", "_25._tcp.mx.example.org are those of a wildcard") || !strings.Contains(got.String(), "of dane.example.org, to which _25._tcp.host7.example.org leads,") {
		t.Errorf("found %s", got)
	}
}

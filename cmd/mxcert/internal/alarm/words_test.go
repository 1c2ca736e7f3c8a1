package alarm

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a text with a file, or writes it.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s is not as expected (go test -update writes it):\n%s", path, text)
	}
}

// The manual page mxcert-notify(7) has each id, with its title.
func TestManual(t *testing.T) {
	page, err := os.ReadFile("../../../../packaging/man/mxcert-notify.7.md")
	if err != nil {
		t.Fatal(err)
	}
	for id, title := range titles {
		if entry := id + "\n: " + title[0] + "\n"; !strings.Contains(string(page), "\n"+entry) {
			t.Errorf("mxcert-notify(7) lacks\n%s", entry)
		}
	}
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// well is a certificate with which all is well.
func well(name string) report.Certificate {
	r := report.New(name, []string{name + ".example.org"})
	r.Keys = []report.Key{{Key: "ec256", Serial: "4f1d", NotBefore: noon.Add(-30 * 24 * time.Hour), NotAfter: noon.Add(60 * 24 * time.Hour), Issuer: "E7"}}
	r.Stage = report.Served
	r.Endpoints = []report.Endpoint{{Address: "127.0.0.1:25", Key: "ec256", Serial: "4f1d", Matches: true, SeenAt: noon}}
	return r
}

// fails is a certificate whose last pass has failed.
func fails(name string, times int, e report.Error) report.Certificate {
	r := well(name)
	r.Error, r.Failures, r.Failed = &e, times, &e
	return r
}

// stapled describes a response of a week that is valid for so long yet, and why no newer one comes.
func stapled(left time.Duration, kind, problem, hint string) *report.OCSP {
	this, next := noon.Add(left-7*24*time.Hour), noon.Add(left)
	return &report.OCSP{Status: "good", ThisUpdate: &this, NextUpdate: &next, Kind: kind, Error: problem, Hint: hint}
}

// kinds are one case of each kind of matter, by what it shows.
func kinds() []struct {
	name     string
	world    func(*tell.World)
	accounts []state.Account
} {
	certificate := func(r report.Certificate) func(*tell.World) {
		return func(w *tell.World) { w.Certificates[r.Name] = tell.Certificate{Report: r, At: noon} }
	}
	mx := func(change func(*report.Certificate)) func(*tell.World) {
		r := well("mx")
		change(&r)
		return certificate(r)
	}
	look := func(source string, f finding.Finding) func(*tell.World) {
		return func(w *tell.World) { w.Findings[tell.Topic{Source: source, Certificate: "mx"}] = []finding.Finding{f} }
	}
	store := func(f finding.Finding) func(*tell.World) {
		return func(w *tell.World) { w.Findings[tell.Topic{Source: "fleet"}] = []finding.Finding{f} }
	}
	off := false
	ago := noon.Add(-5 * time.Hour)
	return []struct {
		name     string
		world    func(*tell.World)
		accounts []state.Account
	}{
		{"the configuration is broken", func(w *tell.World) {
			w.ConfigError, w.ConfigBadAt = "/etc/mxcert/mxcert.yaml:12:3: unknown key \"domain\"; did you mean domains?\n  domain: [mx.example.org]\n  ^", noon.Add(-time.Minute)
		}, nil},
		{"the CA has replaced the account", func(*tell.World) {}, []state.Account{{Directory: "https://ca.example/dir", URL: "https://ca.example/acct/2",
			Former: []state.FormerAccount{{URL: "https://ca.example/acct/1", Until: noon.Add(-time.Hour), Why: "the CA no longer knew it"}, {URL: "https://ca.example/acct/0", Until: noon.Add(-time.Hour), Why: state.ByHand}}}}},
		{"the CA refuses the account", certificate(fails("mx", 1, report.Error{Stage: "account", Kind: "account", Message: "acme.example has deactivated the account https://ca.example/acct/1", Hint: "find out who deactivated it and why; `mxcert account register --replace` registers a new one"})), nil},
		{"a renewal fails the second time", certificate(fails("mx", 2, report.Error{Stage: "dns", Kind: "tsig", Message: "192.0.2.53 refuses the update of zone example.org with REFUSED: the server does not accept TSIG key mxcert. with this secret and algorithm, or it is not the primary of zone example.org",
			Hint: "compare DNSUPDATE_TSIG_SECRET with the key of the server"})), nil},
		{"mxcert waits after a failure", func(w *tell.World) {
			r := fails("mx", 3, report.Error{Stage: "order", Kind: "ca-unreachable", Message: "acme.example does not answer: connection refused", Hint: "mxcert tries again by itself"})
			r.Error = &report.Error{Stage: "order", Kind: "backoff", Message: "waits until 2026-11-30T14:00:00Z"}
			w.Certificates["mx"] = tell.Certificate{Report: r, At: noon}
		}, nil},
		{"not in service", mx(func(r *report.Certificate) {
			r.Stage, r.OutOfService, r.Code, r.Failures = report.Issued, true, report.CodeNotInService, 1
			r.Error = &report.Error{Stage: "deploy", Kind: "permission", Message: "/etc/exim4/exim.key: permission denied", Hint: "chown mxcert:Debian-exim /etc/exim4/exim.key"}
			r.Endpoints[0] = report.Endpoint{Address: "127.0.0.1:25", Serial: "0a0b"}
		}), nil},
		{"expiring", mx(func(r *report.Certificate) {
			r.Keys[0].NotBefore, r.Keys[0].NotAfter = noon.Add(-80*24*time.Hour), noon.Add(10*24*time.Hour)
		}), nil},
		{"expired", mx(func(r *report.Certificate) {
			r.Keys[0].NotBefore, r.Keys[0].NotAfter = noon.Add(-91*24*time.Hour), noon.Add(-24*time.Hour)
		}), nil},
		{"a fight over files", mx(func(r *report.Certificate) {
			r.HeldUntil, r.HeldOnly, r.Code = noon.Add(time.Hour), true, report.CodeNotInService
			r.Error = &report.Error{Stage: "deploy", Kind: "drift", Message: "something changes /etc/exim4/exim.crt again and again (content): mxcert has repaired it 3 times within an hour, and leaves it alone until 13:00", Hint: "find out who writes it"}
		}), nil},
		{"a hook fails", certificate(fails("mx", 2, report.Error{Stage: "hook", Kind: "hook", Message: "/etc/mxcert/hooks/deploy.d/restart failed with exit code 3: no such file", Hint: "repair the program; the next pass runs it again"})), nil},
		{"the gate is closed", certificate(fails("mx", 1, report.Error{Stage: "deploy", Kind: "dane", Message: "senders that use DANE would defer mail: no TLSA record at _25._tcp.mx.example.org names the key", Hint: "publish the record that mxcert tlsa show mx prints"})), nil},
		{"TLSA records do not fit", mx(func(r *report.Certificate) {
			r.TLSA = &report.TLSA{State: "blocked", WaitingFor: "records", Owners: []report.TLSAOwner{{Owner: "_25._tcp.mx.example.org", Host: "mx.example.org", Port: 25, Matches: &off, Reason: "no record names the key that is served"}}}
		}), nil},
		{"a roll is late", mx(func(r *report.Certificate) {
			r.TLSA = &report.TLSA{State: "spreading", WaitingFor: "ns2.example.org does not give the new record", Until: &ago}
		}), nil},
		{"a name is left out", mx(func(r *report.Certificate) {
			r.LeftOut = []report.LeftOut{{Name: "mx.customer.example", Since: noon.Add(-24 * time.Hour), Reason: "the CA found no TXT record", NextTry: noon}}
		}), nil},
		{"an unknown certificate", look("ct", finding.New("ct-unknown-certificate", finding.Error, "Example CA issued a certificate with serial 0badcafe for mx.example.org on 2026-11-29, and this mxcert did not order it").
			About("0badcafe").Next("ask who ordered it; if nobody did, ask the CA to revoke it, and set a CAA record with accounturi")), nil},
		{"the store of the fleet cannot be used", store(finding.New("fleet-away", finding.Error, "the store of the fleet berlin cannot be used since 2026-11-30 11:30 UTC: 192.0.2.7:2379 refuses the connection").Next("see that etcd runs")), nil},
		{"something forged in the store of the fleet", store(finding.New("fleet-fault", finding.Error, "certificate/mx/ec256: nobody whom this host trusts has signed it").Next("see mxcert fleet status")), nil},
		{"senders meet a fault", look("senders", finding.New("senders-mta_sts", finding.Error, "the policy of example.org does not name mx.example.org").About("example.org").Next("mxcert verify --domain example.org shows each address")), nil},
		{"senders report", look("tlsrpt", finding.New("certificate-expired", finding.Error, "Google met certificate-expired on mx2.example.org, 12 sessions").About("mx2.example.org")), nil},
		{"revoked", mx(func(r *report.Certificate) {
			r.Error, r.Code = &report.Error{Stage: "ocsp", Kind: "ocsp-revoked", Message: "the CA says that the certificate with serial 4f1d was revoked", Hint: "mxcert renew --now --new-key"}, report.CodeFailed
			r.Keys[0].OCSP = stapled(48*time.Hour, "ocsp-revoked", "the CA says that the certificate with serial 4f1d was revoked at 2026-11-30T11:00:00Z (keyCompromise)", "replace it at once, with a new key: mxcert renew --now --new-key")
		}), nil},
		{"a responder is down, and the response ends soon", mx(func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(30*time.Hour, "ocsp-unavailable", "the OCSP responder http://ocsp.example gave no usable answer: connection refused", "mxcert asks again")
		}), nil},
		{"a response has expired, and Exim needs it", mx(func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(-time.Hour, "ocsp-unknown", "the OCSP responder does not know the certificate with serial 4f1d", "ask the CA")
			r.Keys[0].OCSP.Needed = true
		}), nil},
		{"no responder", mx(func(r *report.Certificate) {
			r.Keys[0].OCSP = &report.OCSP{Status: "none", Kind: "ocsp-no-responder", Error: "the certificate (from \"E7\") names no OCSP responder, so nothing can be written to /etc/exim4/ocsp.der", Hint: "remove `ocsp: /etc/exim4/ocsp.der` from the target"}
		}), nil},
		{"a revoked certificate is not deployed", mx(func(r *report.Certificate) {
			r.Stage, r.OutOfService, r.Code = report.Issued, true, report.CodeNotInService
			r.Error = &report.Error{Stage: "deploy", Kind: "ocsp-revoked", Message: "the CA says that the certificate with serial 4f1d was revoked; the certificate with serial 4f1d is not deployed", Hint: "replace it at once"}
			r.Keys[0].OCSP = &report.OCSP{Status: "revoked", Kind: "ocsp-revoked", Error: "the CA says that the certificate with serial 4f1d was revoked", Hint: "replace it at once"}
		}), nil},
		{"many certificates, one cause", func(w *tell.World) {
			for i := range 250 {
				name := fmt.Sprintf("mx%03d", i)
				w.Host.Certificates = append(w.Host.Certificates, wanted.Certificate{Name: name})
				r := fails(name, 1, report.Error{Stage: "reload", Kind: "failed", Message: "exim4.service could not be reloaded for " + name + ".example.org: exit code 1", Hint: "exim4 -bV says what is wrong with its configuration"})
				w.Certificates[name] = tell.Certificate{Report: r, At: noon}
			}
		}, nil},
		{"several causes", func(w *tell.World) {
			w.Certificates["mx"] = tell.Certificate{At: noon, Report: fails("mx", 2, report.Error{Stage: "dns", Kind: "dns-unreachable", Message: "192.0.2.53 does not answer"})}
			w.Findings[tell.Topic{Source: "senders", Certificate: "mx"}] = []finding.Finding{finding.New("senders-dane", finding.Error, "no record fits").About("example.org")}
			w.ConfigError, w.ConfigBadAt = "line 3 is bad", noon
		}, nil},
	}
}

// Every kind of message, as a person reads it: when it comes, as a reminder, and when it is over.
func TestMessages(t *testing.T) {
	var all strings.Builder
	for _, kind := range kinds() {
		w := tell.World{Host: &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx"}}}, Certificates: map[string]tell.Certificate{}, Findings: map[tell.Topic][]finding.Finding{}}
		kind.world(&w)
		b := newBook()
		at := func(when time.Duration, w tell.World) {
			for name, c := range w.Certificates {
				c.At = noon.Add(when)
				w.Certificates[name] = c
			}
			b.update(Look(w, kind.accounts, nil, noon), chat(), "host7.example.org", noon.Add(when))
			for _, m := range b.Lanes["chat"].Queue {
				fmt.Fprintf(&all, "#### %s: %s\nSubject: %s\n\n%s\n", kind.name, m.Event, m.Subject, m.Text)
				for _, line := range strings.Split(m.Text, "\n") {
					if utf8.RuneCountInString(line) > columns {
						t.Errorf("%s: a line of %d columns: %s", kind.name, utf8.RuneCountInString(line), line)
					}
				}
				if len(m.Matters) == 0 || strings.Contains(m.Subject, "\n") {
					t.Errorf("%s: %+v", kind.name, m)
				}
			}
			b.Lanes["chat"].Queue = nil
		}
		at(0, w)
		at(24*time.Hour, w)
		for name := range w.Certificates {
			w.Certificates[name] = tell.Certificate{Report: well(name)}
		}
		for topic := range w.Findings {
			w.Findings[topic] = nil
		}
		w.ConfigError = ""
		at(25*time.Hour, w)
		at(27*time.Hour, w)
	}
	golden(t, "messages.txt", all.String())
}

// What only says that something waits, or was interrupted, is no failure, and says nothing.
func TestNoFailure(t *testing.T) {
	for _, e := range []report.Error{{Stage: "order", Kind: "backoff", Message: "waits"}, {Stage: "lock", Kind: "locked"}, {Stage: "order", Kind: "interrupted"}, {Stage: "state", Kind: "refused"},
		{Stage: "order", Kind: "fleet-busy"}, {Stage: "order", Kind: "fleet-away"}} {
		r := well("mx")
		r.Error = &e
		w := tell.World{Host: &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx"}}}, Certificates: map[string]tell.Certificate{"mx": {Report: r, At: noon}}}
		v := Look(w, nil, nil, noon)
		if len(v.Matters) != 0 || v.passes["mx"] != (e.Kind == "backoff") {
			t.Errorf("%s: %+v", e.Kind, v)
		}
	}
}

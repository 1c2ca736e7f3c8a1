package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// mailConfig is a host with the mail domain example.com, whose MX host is this host by an address of a NAT.
func mailConfig(t *testing.T, confirm string) *host {
	t.Helper()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: []string{"example.com"}, Extra: "public_addresses: [\"192.0.2.10\"]\n"})
	h.edit("    keys:", "    mail_domains_confirm: "+confirm+"\n    keys:")
	h.check(h.World.Add("mx2.example.org. A 192.0.2.10"))
	h.check(h.World.Replace("example.com. MX 10 mx2.example.org."))
	return h
}

// The daemon looks by itself when a second look may decide, and orders the name once. When the name is gone, it orders nothing.
func TestDaemonFindsNames(t *testing.T) {
	t.Parallel()
	h := mailConfig(t, "1h")
	d := h.daemon()
	d.awaitLog("certificate in service")
	if c := h.look(); len(c.Awaited) != 1 {
		t.Errorf("%+v", c)
	}
	h.edit("mail_domains_confirm: 1h", "mail_domains_confirm: 2s")
	d.awaitLog("mx2.example.org (MX of example.com) is wanted now")
	eventually(t, "what the daemon has found is kept", func() bool { return h.placed() == 2 && len(h.look().Missing) == 0 })
	h.check(h.World.Replace("example.com. MX 10 mx.example.org."))
	time.Sleep(2100 * time.Millisecond)
	h.asked(report.CodeOK, Order{})
	time.Sleep(2500 * time.Millisecond)
	h.asked(report.CodeOK, Order{})
	if c := h.look(); h.placed() != 2 || !slices.Equal(c.Leaving, []string{"mx2.example.org"}) || h.events("name-gone") != 1 {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
	d.stop()
}

// fakeSurvey answers a look with what a test sets.
type fakeSurvey struct {
	mu      sync.Mutex
	looks   []survey.Options
	until   []time.Time // the looks must have ended
	answers survey.Domain
	hosts   []survey.Host
	block   bool
}

func (f *fakeSurvey) look(ctx context.Context, domain string, o survey.Options) (survey.Domain, []survey.Host) {
	f.mu.Lock()
	f.looks = append(f.looks, o)
	until, _ := ctx.Deadline()
	f.until = append(f.until, until)
	d, hosts, block := f.answers, f.hosts, f.block
	f.mu.Unlock()
	if block {
		<-ctx.Done()
	}
	d.Domain = domain
	return d, hosts
}

func (f *fakeSurvey) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.looks)
}

// What senders meet is looked at after a deployment, logged when it is new and when it is gone, and kept for status.
func TestSenders(t *testing.T) {
	t.Parallel()
	h := mailConfig(t, "1h")
	mx := survey.Host{Findings: []finding.Finding{finding.New("name-mismatch", finding.Error, "no name fits"), finding.New("fine", finding.OK, "fine")}}
	mx.Host, mx.Address = "mx2.example.org", netip.MustParseAddr("192.0.2.10")
	f := &fakeSurvey{hosts: []survey.Host{mx}, answers: survey.Domain{
		Verdicts: map[verdict.Kind]verdict.Verdict{verdict.PKIX: {Result: verdict.Fail, Reason: "no host is left"}, verdict.DANE: {Result: verdict.NotApplicable}},
		Findings: []finding.Finding{finding.New("mx-null-beside", finding.Warning, "a null MX").About("example.com")},
	}}
	d := h.daemonWith(f.look)
	d.awaitLog("no host is left")
	if !d.log.has("level=ERROR", "senders meet a fault", "id=senders-pkix", "subject=example.com", "mxcert verify --domain example.com") ||
		!d.log.has("level=ERROR", "id=name-mismatch", "mx2.example.org [192.0.2.10]") || !d.log.has("level=WARN", "id=mx-null-beside") || d.log.has("id=fine") {
		t.Errorf("%s", d.log)
	}
	c := h.look()
	if c.Senders == nil || len(c.Senders.Findings) != 3 || c.Senders.Findings[2].ID != "mx-null-beside" || !slices.Equal(c.Senders.Domains, []string{"example.com"}) || time.Since(c.Senders.At) > time.Minute {
		t.Fatalf("%+v", c.Senders)
	}
	if o := f.looks[0]; o.Full || o.Connections != 0 || !o.Ours(netip.MustParseAddr("192.0.2.10")) || o.Ours(netip.MustParseAddr("198.51.100.1")) || o.Roots == nil || o.Turns == nil {
		t.Errorf("%+v", o)
	}

	// Another pass within the hour is no reason for a look; a deployment is. What was known is not logged again.
	h.asked(report.CodeOK, Order{})
	if n := f.count(); n != 1 {
		t.Errorf("%d looks", n)
	}
	f.mu.Lock()
	f.hosts, f.answers.Verdicts = nil, nil
	f.mu.Unlock()
	h.asked(report.CodeOK, Order{Force: true})
	d.awaitLog("senders do not meet this any more")
	if n := d.log.count("senders meet a fault"); n != 3 || d.log.count("do not meet this any more") != 2 || !d.log.has("do not meet this any more", "id=senders-pkix") {
		t.Errorf("%d faults:\n%s", n, d.log)
	}
	eventually(t, "what the daemon has found is kept", func() bool { return len(h.look().Senders.Findings) == 1 })
	d.stop()
}

// Domains may have the same MX host: there is one connection at a time to it, whatever the domain, and each domain has its time.
func TestSendersToManyDomains(t *testing.T) {
	t.Parallel()
	domains := make([]string, 100)
	for i := range domains {
		domains[i] = fmt.Sprintf("d%d.example.com", i)
	}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{MailDomains: domains})
	f, start := &fakeSurvey{}, time.Now()
	d := h.daemonWith(f.look)
	eventually(t, "all domains are looked at", func() bool { return f.count() == len(domains) })
	d.stop()
	for i, o := range f.looks {
		if o.Turns == nil || o.Turns != f.looks[0].Turns {
			t.Fatalf("look %d has turns of its own", i)
		}
		if limit := f.until[i].Sub(start); limit < 5*time.Minute {
			t.Fatalf("look %d has %s", i, limit)
		}
	}
}

// The daemon remembers the MTA-STS policies of the mail domains, through a restart, and finds an id that did not change.
func TestSendersPolicies(t *testing.T) {
	t.Parallel()
	h := mailConfig(t, "1h")
	policy := func(hosts ...string) survey.Domain {
		return survey.Domain{Policy: mtasts.Found{Domain: "example.com", ID: "1", Policy: &mtasts.Policy{Mode: mtasts.Enforce, MaxAge: time.Hour, MX: hosts}}}
	}
	f := &fakeSurvey{answers: policy("mx.example.org")}
	d := h.daemonWith(f.look)
	eventually(t, "the first look", func() bool { return h.look().Senders != nil })
	d.stop()
	if c := h.look(); len(c.Senders.Findings) != 0 {
		t.Errorf("%+v", c.Senders)
	}
	f.answers = policy("mx2.example.org")
	d = h.againWith(f.look)
	d.awaitLog("sts-id-unchanged")
	d.stop()
	if c := h.look(); len(c.Senders.Findings) != 1 || c.Senders.Findings[0].Subject != "example.com" {
		t.Errorf("%+v", c.Senders)
	}
}

// A look that takes long delays neither a pass nor the end of the daemon, and one that was interrupted says nothing.
func TestSendersDelayNothing(t *testing.T) {
	t.Parallel()
	h := mailConfig(t, "1h")
	f := &fakeSurvey{block: true}
	d := h.daemonWith(f.look)
	eventually(t, "what the daemon has found is kept", func() bool { return f.count() == 1 })
	began := time.Now()
	h.asked(report.CodeOK, Order{Force: true})
	d.stop()
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	if c := h.look(); c.Senders != nil || f.count() > 2 {
		t.Errorf("%d looks, %+v", f.count(), c.Senders)
	}
}

// A certificate without mail domains is not looked at, nor is a world in which nothing was deployed.
func TestSendersOfNothing(t *testing.T) {
	t.Parallel()
	f := &fakeSurvey{}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemonWith(f.look)
	d.awaitLog("certificate in service")
	d.stop()
	if f.count() != 0 {
		t.Errorf("%d looks", f.count())
	}
}

func TestNextPassForALook(t *testing.T) {
	t.Parallel()
	now := time.Now()
	soon, late := now.Add(10*time.Minute), now.Add(30*time.Minute)
	for _, tt := range []struct {
		r    report.Certificate
		want time.Time
	}{
		{report.Certificate{NextLook: soon}, soon},
		{report.Certificate{NextLook: now.Add(2 * time.Hour)}, now.Add(time.Hour)},
		{report.Certificate{NextLook: now.Add(-time.Minute)}, now.Add(time.Second)},
		{report.Certificate{NextLook: soon, NextTry: &late, OutOfService: true}, late}, // no sooner: each attempt may delay mail
	} {
		if got := nextPass(tt.r, now); !got.Equal(tt.want) {
			t.Errorf("%+v: in %v, want %v", tt.r, got.Sub(now), tt.want.Sub(now))
		}
	}
}

// A host that is endlessly slow hides nothing: what the look has found before its time is over is kept, and the other domains have their own time.
func TestSlowDomainHidesNothing(t *testing.T) {
	t.Parallel()
	domains := []string{"a.example", "b.example", "c.example", "d.example", "e.example"}
	synctest.Test(t, func(t *testing.T) {
		look := func(ctx context.Context, domain string, _ survey.Options) (survey.Domain, []survey.Host) {
			if domain != "e.example" {
				<-ctx.Done()
			}
			if domain == "e.example" && ctx.Err() != nil {
				t.Error("no time is left for the last domain")
			}
			return survey.Domain{Domain: domain, Findings: []finding.Finding{finding.New("timeout", finding.Error, "it is slow").About(domain)}}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen, _ := meet(ctx, wanted.Certificate{MailDomains: domains}, nil, look)
		if len(seen.Findings) != len(domains) {
			t.Errorf("%+v", seen.Findings)
		}
	})
}

// A reload ends a look, because it is about another configuration. The next configuration is looked at at once, and not an hour later.
func TestReloadDuringALook(t *testing.T) {
	t.Parallel()
	h := mailConfig(t, "1h")
	f := &fakeSurvey{block: true}
	d := h.daemonWith(f.look)
	eventually(t, "a look", func() bool { return f.count() == 1 })
	f.mu.Lock()
	f.block = false
	f.mu.Unlock()
	h.edit("timeout: 30s}", "timeout: 29s}")
	d.awaitLog("configuration loaded")
	eventually(t, "what senders meet", func() bool { return f.count() == 2 && h.look().Senders != nil })
	d.stop()
}

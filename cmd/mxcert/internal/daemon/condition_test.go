package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// `systemctl status` shows the worst certificate: what fails, since when, and until when there is time.
func TestConditionText(t *testing.T) {
	t.Parallel()
	runner := &pass.Runner{Host: &wanted.Host{}}
	for _, name := range []string{"mx", "imap", "www"} {
		runner.Host.Certificates = append(runner.Host.Certificates, wanted.Certificate{Name: name})
	}
	d := &Daemon{workload: &workload{runner: runner}, conditions: map[string]condition{}, log: nil}
	now := time.Now()
	soon, later := now.Add(4*time.Minute).UTC(), now.Add(400*time.Hour).UTC()
	observe := func(name string, options pass.Options, notAfter time.Time, failure *report.Error) {
		r := report.Certificate{Name: name, Error: failure, NextRenewal: &later}
		if !notAfter.IsZero() {
			r.Keys = []report.Key{{NotAfter: notAfter.Add(time.Hour)}, {NotAfter: notAfter}}
		}
		d.observe(&order{want: wanted.Certificate{Name: name}, options: options}, r)
	}
	says := func(words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(d.shown, w) {
				t.Errorf("%q does not say %q", d.shown, w)
			}
		}
	}
	byDaemon := pass.Options{Daemon: true}
	observe("mx", byDaemon, later, nil)
	if d.shown != "3 certificates" {
		t.Errorf("before all were looked at: %q", d.shown)
	}
	observe("imap", byDaemon, later, nil)
	observe("www", byDaemon, later, nil)
	says("3 certificates, all is well; next renewal: mx, " + report.Minute(later))
	observe("www", pass.Options{Rollback: true}, later, report.NewError(errors.New("there is no earlier one")))
	says("all is well")
	d.observe(&order{want: wanted.Certificate{Name: "imap"}, options: byDaemon}, report.Certificate{NextRenewal: &later, LeftOut: []report.LeftOut{{Name: "mx.customer.example"}}})
	says("3 certificates, all are in service; next renewal: mx, " + report.Minute(later) + "; imap is without mx.customer.example")
	d.observe(&order{want: wanted.Certificate{Name: "imap"}, options: byDaemon}, report.Certificate{NextRenewal: &later, TLSA: &report.TLSA{State: "blocked"}})
	says("3 certificates, all are in service; next renewal: mx, " + report.Minute(later) + "; imap has a TLSA fault: mxcert tlsa check imap")
	observe("mx", byDaemon, later, report.NewError(errors.New("the CA is away\nsince long")))
	began := d.conditions["mx"].since
	says("mx fails since " + report.Minute(began) + ": the CA is away since long; its certificate expires at " + report.Minute(later))
	observe("imap", byDaemon, soon, report.NewError(errors.New("no DNS")))
	says("imap fails since", "no DNS; its certificate expires at "+report.Minute(soon), "; 2 of 3 certificates fail")
	observe("www", byDaemon, now.Add(-time.Hour), report.NewError(errors.New("no")))
	says("www fails since", "its certificate expired at ", "; 3 of 3 certificates fail")
	observe("www", byDaemon, time.Time{}, report.NewError(errors.New(strings.Repeat("long ", 1000))))
	if says("www fails since", "it has no certificate yet"); len(d.shown) > 400 {
		t.Errorf("%d bytes", len(d.shown))
	}
	observe("www", byDaemon, later, nil)
	observe("imap", byDaemon, later, nil)
	observe("mx", byDaemon, later, &report.Error{Kind: "backoff", Message: "the order waits"})
	if says("the CA is away"); !d.conditions["mx"].since.Equal(began) {
		t.Errorf("it fails since %s, now %s", began, d.conditions["mx"].since)
	}
	d.status.ConfigError = "bad\nfile"
	observe("mx", byDaemon, later, nil)
	says("bad configuration, the old one stays in force: bad; file")
}

package daemon

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// conditioned returns a daemon with certificates that have no pass yet.
func conditioned(names ...string) *Daemon {
	runner := &pass.Runner{Host: &wanted.Host{}}
	for _, name := range names {
		runner.Host.Certificates = append(runner.Host.Certificates, wanted.Certificate{Name: name})
	}
	return &Daemon{workload: &workload{runner: runner}, conditions: map[string]condition{}, progress: map[*order]time.Time{}, idle: time.AfterFunc(time.Hour, func() {})}
}

// `systemctl status` says what the first certificate waits for. What fails is worse, and comes alone.
func TestStatusSaysWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	until, renews := now.Add(time.Hour), now.Add(400*time.Hour)
	at := report.Minute(until)
	good := func() report.Certificate {
		return report.Certificate{NextRenewal: &renews, Keys: []report.Key{{NotAfter: now.Add(800 * time.Hour)}}}
	}
	limited := good()
	limited.Error, limited.Limited, limited.NextTry = &report.Error{Kind: "backoff", Message: "waits until then: 5 orders in 7 days"}, true, &until
	first := limited
	first.Keys = nil
	tlsa, tlsaForever, awaited, several := good(), good(), good(), good()
	tlsa.TLSA = &report.TLSA{State: "holding", WaitingFor: "senders may still hold the records of ns2.example.org", Until: &until}
	tlsaForever.TLSA = &report.TLSA{State: "publishing", WaitingFor: "mxcert has to add the records"}
	awaited.Awaited = []report.Awaited{{Name: "mx2.example.org", Until: until}}
	several.Awaited = []report.Awaited{{Name: "mx2.example.org", Until: until}, {Name: "mx3.example.org", Until: until}}
	failed := good()
	failed.Error, failed.NextTry = report.NewError(errors.New("the CA is away")), &until
	held := limited
	held.Limited = false // of an earlier failure

	busy, away := good(), good()
	busy.Error, busy.Elsewhere, busy.NextTry = &report.Error{Kind: pass.KindFleetBusy, Message: "another host orders"}, true, &until
	away.Error, away.Elsewhere, away.NextTry = &report.Error{Kind: pass.KindFleetAway, Message: "etcd is away"}, true, &until

	for _, tt := range []struct {
		what    string
		mx, www report.Certificate
		want    string
	}{
		{"the CA's limits", limited, good(), "2 certificates, all is well; next renewal: mx, " + report.Minute(renews) + "; mx waits for the limits of the CA until " + at},
		{"TLSA records", tlsa, good(), "; mx waits: senders may still hold the records of ns2.example.org, until " + at},
		{"TLSA records, for how long is not known", tlsaForever, good(), "; mx waits: mxcert has to add the records"},
		{"a second look", good(), awaited, "; www awaits a second look for mx2.example.org until " + at},
		{"several looks", several, awaited, "; mx awaits a second look for mx2.example.org until " + at + " (and 1 more); 1 more waits"},
		{"a failure is worse", tlsa, failed, "the CA is away; its certificate expires at " + report.Minute(failed.Keys[0].NotAfter) + "; the next try is at " + at},
		{"a limit is a failure while there is no certificate", first, good(), ": waits until then: 5 orders in 7 days; it has no certificate yet; the next try is at " + at},
		{"the backoff after a failure is a failure", held, good(), "mx fails since "},
		{"another host of the fleet", busy, good(), "; mx waits for another host of the fleet, which orders"},
		{"the store of the fleet", away, good(), "; mx waits for the store of the fleet"},
		{"nothing", good(), good(), "2 certificates, all is well; next renewal: mx, " + report.Minute(renews)},
	} {
		d := conditioned("mx", "www")
		d.observe(&order{want: wanted.Certificate{Name: "mx"}}, tt.mx)
		d.observe(&order{want: wanted.Certificate{Name: "www"}}, tt.www)
		ends := strings.HasSuffix(d.shown, tt.want)
		if strings.HasSuffix(tt.want, "since ") {
			ends = strings.HasPrefix(d.shown, tt.want)
		}
		if !ends {
			t.Errorf("%s: %q, want %q at the end", tt.what, d.shown, tt.want)
		}
	}
}

// A pass that takes long says what it is doing; one that does not says nothing.
func TestStatusOfSlowPasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := conditioned("mx", "www")
		defer func() { d.idle.Stop() }()
		mx, www := &order{want: wanted.Certificate{Name: "mx"}}, &order{want: wanted.Certificate{Name: "www"}}
		shown := func(want string) {
			t.Helper()
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.shown != want {
				t.Errorf("systemd was told %q, want %q", d.shown, want)
			}
		}
		d.showCondition(false)
		d.began(mx)
		d.step(mx, "due")
		time.Sleep(10 * time.Second)
		d.step(mx, "propagation")
		began := report.Minute(time.Now())
		shown("2 certificates")
		time.Sleep(slowPass)
		shown("2 certificates; mx waits for its records in DNS since " + began)
		time.Sleep(5 * time.Minute)
		d.step(mx, "propagation")
		shown("2 certificates; mx waits for its records in DNS since " + began)
		d.began(www)
		d.step(mx, "validation")
		shown("2 certificates; mx waits for the CA since " + report.Minute(time.Now()))
		since := report.Minute(time.Now())
		time.Sleep(time.Minute)
		shown("2 certificates; mx waits for the CA since " + since + "; 1 more is at work")
		d.ends(mx)
		d.ended(mx)
		shown("2 certificates; www is at work since " + since)
		d.ends(www)
		d.ended(www)
		shown("2 certificates")
		d.began(mx) // and one that is quick
		d.ends(mx)
		d.ended(mx)
		time.Sleep(time.Hour)
		shown("2 certificates")
	})
}

package pass

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/smtpd"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
)

// Look compares the four truths, and its exit code is that of a pass which finds the same.
func TestLook(t *testing.T) {
	t.Parallel()
	drift := func(h *host) {
		now := time.Now().UTC()
		h.put("tls/mx.crt", "garbage")
		h.remember(func(r *state.Record) {
			r.Heals = state.Heals{At: []time.Time{now, now, now}, Fingerprint: h.want().Fingerprint()}
		})
	}
	failure := func(stage string) func(*host) {
		return func(h *host) {
			h.remember(func(r *state.Record) {
				r.Failure = &state.Failure{Stage: stage, Kind: "kind", Message: "it broke", Hint: "fix it", Count: 3, At: time.Now(), NotBefore: time.Now().Add(time.Hour)}
			})
		}
	}
	hooksDue := func(h *host) { h.remember(func(r *state.Record) { r.HooksDue = true }) }
	noTLS := func(h *host) {
		h.edit("timeout: 30s}\nstate", "timeout: 1s}\nstate")
		h.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true})
	}
	for _, tt := range []struct {
		what  string
		spoil []func(*host)
		code  report.Code
		stage report.Stage
		of    string // the step that the error names
		says  string // the error, or a warning
	}{
		{"all is well", nil, report.CodeOK, report.Served, "", ""},
		{"a file is missing", []func(*host){func(h *host) { h.check(os.Remove(h.Path("tls", "mx.crt"))) }}, report.CodeNotInService, report.Issued, "verify", "mx.crt does not exist"},
		{"a file was overwritten", []func(*host){func(h *host) { h.put("tls/mx.crt", "garbage") }}, report.CodeNotInService, report.Issued, "verify", "mx.crt differs from the issued certificate"},
		{"everybody may read the key", []func(*host){func(h *host) { h.check(os.Chmod(h.Path("tls", "mx.key"), 0o644)) }}, report.CodeNotInService, report.Served, "", "mx.key has mode 0644, owner "},
		{"the target cannot be used", []func(*host){func(h *host) {
			h.check(os.Remove(h.Path("tls", "mx.crt")))
			h.check(os.Mkdir(h.Path("tls", "mx.crt"), 0o700))
		}}, report.CodeNotInService, report.Issued, "deploy", "mx.crt"},
		{"the server offers no TLS", []func(*host){noTLS}, report.CodeNotInService, report.Deployed, "verify", "STARTTLS"},
		{"something else keeps changing the file", []func(*host){drift}, report.CodeNotInService, report.Issued, "deploy", "something else keeps changing"},
		{"that is newer than the last failure", []func(*host){drift, failure("order")}, report.CodeNotInService, report.Issued, "deploy", "something else keeps changing"},
		{"the last order failed", []func(*host){failure("challenge")}, report.CodeFailed, report.Served, "challenge", "it broke"},
		{"the last deployment failed", []func(*host){failure("reload")}, report.CodeNotInService, report.Served, "reload", "it broke"},
		{"when it is tried again", []func(*host){failure("order")}, report.CodeFailed, report.Served, "order", "(3 in a row); the daemon tries again at"},
		{"hooks have failed", []func(*host){hooksDue}, report.CodeFailed, report.Served, "hook", "have not succeeded yet"},
		{"hooks have failed, and the server too", []func(*host){hooksDue, noTLS}, report.CodeNotInService, report.Deployed, "verify", "STARTTLS"},
		{"the record is damaged", []func(*host){func(h *host) { h.put("state/lineages/mx/record.json", "{") }}, report.CodeOK, report.Served, "", "record.json is damaged"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			serial := h.pass(report.CodeOK, renew).Keys[0].Serial
			for _, spoil := range tt.spoil {
				spoil(h)
			}
			record := h.Path("state", "lineages", "mx", "record.json")
			before, err := os.ReadFile(record)
			h.check(err)
			c := h.look(tt.code)
			of, said := "", c.Warnings
			if c.Error != nil {
				of, said = c.Error.Stage, append(said, c.Error.Message)
			}
			if c.Stage != tt.stage || of != tt.of || !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, tt.says) }) && tt.says != "" {
				t.Errorf("stage %s, error %+v, warnings %q", c.Stage, c.Error, c.Warnings)
			}
			if len(c.Keys) != 1 || c.Keys[0].Serial != serial || len(c.Endpoints) != 1 || c.Endpoints[0].Matches != (c.Stage == report.Served) {
				t.Errorf("%+v", c)
			}
			if e := c.Endpoints[0]; (e.Error == "") != (e.Kind == "") || e.Error != "" && e.Hint == "" {
				t.Errorf("%+v", e)
			}
			if after, err := os.ReadFile(record); err != nil || string(after) != string(before) {
				t.Errorf("a look has written, or %v", err)
			}
		})
	}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if c := h.look(report.CodeTemporary); c.Stage != report.Waiting || c.Error != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "no certificate yet") || len(c.Files) != 2 {
		t.Errorf("nothing is issued: %+v", c)
	}
}

// A failure before anything was issued is told, too.
func TestLookAtAFirstFailure(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.hook("pre.d/no", "exit 1")
	first := o.pass(report.CodeFailed, renew)
	c := o.look(report.CodeTemporary)
	if c.Stage != report.Waiting || c.Error == nil || c.Error.Stage != first.Error.Stage || c.Error.Message != first.Error.Message || len(c.Warnings) != 2 {
		t.Errorf("%+v, %+v; the pass said %+v", c, c.Error, first.Error)
	}
}

// A stored certificate that cannot be read is named, and an older one takes its place, as it will in the next pass.
func TestLookAtADamagedCertificate(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	first := o.issued()
	second := o.inService(o.keep(o.sign(bundle.EC256, nil, nil), time.Now()))
	o.pass(report.CodeOK, deployOnly)
	o.check(os.WriteFile(filepath.Join(o.lineage().Directory(second.ID), "privkey.pem"), []byte("x"), 0o600))
	c := o.look(report.CodeNotInService)
	if c.Keys[0].Serial != first.Serial || c.Stage != report.Issued || !strings.Contains(strings.Join(c.Warnings, "\n"), second.ID+" cannot be used") {
		t.Errorf("%+v", c)
	}
	mode := deployOnly
	mode.Shorter = true // the older one may end a second earlier
	if c := o.pass(report.CodeOK, mode); !c.Changed || o.served() != first.Serial || !strings.Contains(strings.Join(c.Warnings, "\n"), second.ID+" cannot be used") {
		t.Errorf("%+v", c)
	}
}

// A look that found everything in order is remembered until a file changes; one that asks the endpoints is made again.
func TestMemory(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	time.Sleep(1100 * time.Millisecond) // what has just been written is not trusted
	m := &Memory{}
	look := func(live bool) (report.Certificate, int) {
		before := h.SMTP.Count()
		c := m.Look(t.Context(), &helper.Looker{}, h.want(), h.lineage(), live)
		return c, h.SMTP.Count() - before
	}
	for _, tt := range []struct {
		what   string
		before func()
		live   bool
		asked  int // handshakes
		code   report.Code
	}{
		{"the first", func() {}, false, 1, report.CodeOK},
		{"the second", func() {}, false, 0, report.CodeOK},
		{"one that asks the endpoints", func() {}, true, 1, report.CodeOK},
		{"the next", func() {}, false, 0, report.CodeOK},
		{"the mode of a file has changed", func() { h.check(os.Chmod(h.Path("tls", "mx.key"), 0o644)) }, false, 1, report.CodeNotInService},
		{"what is not in order is not remembered", func() {}, false, 1, report.CodeNotInService},
		{"it is repaired just now", func() { h.check(os.Chmod(h.Path("tls", "mx.key"), 0o640)) }, false, 1, report.CodeOK},
		{"and not trusted yet", func() {}, false, 1, report.CodeOK},
	} {
		tt.before()
		if c, asked := look(tt.live); asked != tt.asked || c.Code != tt.code {
			t.Errorf("%s: %d handshakes, want %d; exit code %d: %+v", tt.what, asked, tt.asked, c.Code, c)
		}
	}
	m.looks["mx"] = remembered{at: time.Now().Add(-2 * memoryLife)}
	if _, asked := look(false); asked != 1 {
		t.Error("a look is remembered for too long")
	}
}

// A name that was added is not in the certificate: status says so, and agrees with renew about the next try.
func TestLookAtMissingNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if c := h.pass(report.CodeOK, renew); c.Missing != nil {
		t.Errorf("missing after an order: %q", c.Missing)
	}
	h.edit(`, "host7.example.org"`, `, "host7.example.org", "ns.example.org"`)
	c := h.look(report.CodeTemporary)
	if c.Stage != report.Served || !slices.Equal(c.Missing, []string{"ns.example.org"}) || c.NextRenewal == nil || time.Until(*c.NextRenewal) > time.Second ||
		!slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "an order is due: the names have changed") }) {
		t.Errorf("before the first try: %+v", c)
	}
	h.check(h.CA.Close())
	tried := h.pass(report.CodeTemporary, Options{Daemon: true})
	c = h.look(report.CodeFailed)
	if c.Stage != report.Served || !slices.Equal(c.Missing, []string{"ns.example.org"}) || !c.NextRenewal.Equal(*tried.NextRenewal) || c.NextTry == nil || !c.NextTry.Equal(*tried.NextTry) {
		t.Errorf("after a failure: next renewal %v, renew says %v; %+v", c.NextRenewal, tried.NextRenewal, c)
	}
	h.edit(`, "ns.example.org"`, "")
	if c = h.look(report.CodeFailed); c.Missing != nil || time.Until(*c.NextRenewal) < 24*time.Hour {
		t.Errorf("the name was taken out again: %+v", c)
	}
}

// An order that waits for the limits of the CA is due: status says until when, as renew does, until another pass ends that.
func TestLookAtHeldOrder(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.pass(report.CodeOK, deployOnly)
	o.edit(`, "host7.example.org"`, `, "host7.example.org", "ns.example.org"`)
	until := time.Now().Add(7 * 24 * time.Hour).UTC().Truncate(time.Second)
	p := o.begin(renew)
	held := p.failure(t.Context(), report.At("order", &schedule.Held{Until: until, Why: "four orders in 7 days"}), nil)
	if held.nextTry == nil || !held.nextTry.Equal(until) {
		t.Fatalf("%+v", held)
	}
	c := o.look(report.CodeTemporary)
	if !c.NextRenewal.Equal(until) || c.NextTry == nil || !c.NextTry.Equal(until) || c.Error == nil || c.Error.Kind != "backoff" || !strings.Contains(c.Error.Message, "four orders in 7 days") {
		t.Errorf("%+v, %+v", c, c.Error)
	}
	o.edit(`, "ns.example.org"`, `, "other.example.org"`)
	if c := o.look(report.CodeTemporary); c.Error != nil || time.Until(*c.NextRenewal) > time.Second {
		t.Errorf("another configuration: %+v, %+v", c, c.Error)
	}
}

// An order in flight, as an interrupted renew leaves it, is due at once.
func TestLookAtOrderInFlight(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.issued()
	o.pass(report.CodeOK, deployOnly)
	want := o.want()
	o.check(o.lineage().SaveOrder(state.Order{URL: "https://ca.example/order/1", Directory: want.Directories[0], Names: want.Names, KeyType: bundle.EC256, Key: "x"}))
	c := o.look(report.CodeOK)
	if time.Until(*c.NextRenewal) > time.Second || !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "an earlier order is not finished") }) {
		t.Errorf("%+v", c)
	}
}

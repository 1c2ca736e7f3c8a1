package pass

import (
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// A change of the key that has to wait says what it waits for. Before the order nobody was asked what is served, and that is not it.
func TestNewKeySaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	h.pass(report.CodeOK, newKey)
	c := h.pass(report.CodeTemporary, newKey)
	if c.Error == nil || strings.Contains(c.Error.Message, "did not answer") || !strings.Contains(c.Error.Message, "the old key's record stays for a while") || !strings.Contains(c.Error.Message, ", until ") {
		t.Errorf("%+v", c.Error)
	}
	h.edit(publishing, `mode: "off"`)
	for when, code := range []report.Code{report.CodeNotInService, report.CodeTemporary} { // until when is known only once the records are removed
		c = h.pass(code, newKey)
		if len(c.Error.Publish) > 0 || strings.Contains(c.Error.Hint, "publish") || !strings.Contains(c.Error.Hint, "until its records are removed") {
			t.Errorf("turning off, %d: %+v", when, c.Error)
		}
		if c = h.pass(report.CodeOK, renew); len(h.published()) > 0 {
			t.Errorf("the zone has %q", h.published())
		}
	}
	if c.TLSA == nil || c.TLSA.Until == nil || !strings.Contains(c.TLSA.WaitingFor, "senders may still hold the records") {
		t.Errorf("nobody says until when the key stays: %+v", c.TLSA)
	}
}

// Records that no sender can use ask for nothing, so a change of the key waits for nothing.
func TestUnusableRecordsHoldNoKey(t *testing.T) {
	t.Parallel()
	for what, options := range map[string]Options{"renew --new-key": newKey, "tlsa roll": {Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}}} {
		h := newDANEHost(t, "mode: check", lab.Options{})
		h.pass(report.CodeOK, renew)
		h.publish("1 1 1 " + strings.Repeat("ab", 32))
		before := h.spki()
		if h.pass(report.CodeOK, options); h.spki() == before {
			t.Errorf("%s: the key is the same", what)
		}
	}
}

// What was just added was not looked for yet, and is not missing. The pass says that it changed something.
func TestRecordsThatWereJustAdded(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.edit("mode: check", publishing)
	c := h.pass(report.CodeOK, Options{Publish: true})
	if c.TLSA == nil || !strings.Contains(c.TLSA.WaitingFor, "mxcert has just added") {
		t.Fatalf("%+v", c.TLSA)
	}
	for _, r := range c.TLSA.Records {
		if len(r.Missing) > 0 {
			t.Errorf("%s is missing: %+v", r.Record, r.Missing)
		}
	}
	if c := h.pass(report.CodeOK, renew); c.TLSA.State != "steady" {
		t.Errorf("%+v", c.TLSA)
	}
}

// A command that is to publish, and cannot, fails, and the certificate stays as it is. Other passes go on.
func TestPublishThatCannot(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.edit(publishing, publishing+", publisher: hook")
	c := h.pass(report.CodeFailed, Options{Publish: true})
	if c.Stage != report.Served || c.Error != nil || !strings.Contains(strings.Join(c.Warnings, "\n"), "could not list the TLSA records at "+strings.TrimSuffix(h.owner(), ".")+":") {
		t.Errorf("without a hook: %s %+v %q", c.Stage, c.Error, c.Warnings)
	}
	h.pass(report.CodeOK, renew)
	h.edit("resolvers: ", "resolvers: [\"127.0.0.1:9\"] # ")
	h.pass(report.CodeTemporary, Options{Publish: true})
	h.pass(report.CodeOK, renew)
}

// With mode gate, the operator may publish what was shown at any moment. A change of the key before that takes the next key, whose record was
// shown, and no third one.
func TestRollBeforeThePublication(t *testing.T) {
	t.Parallel()
	for what, options := range map[string]Options{"renew --new-key": newKey, "tlsa roll": {Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}}} {
		h := newDANEHost(t, "mode: gate", lab.Options{})
		h.pass(report.CodeOK, renew)
		next := h.remembered().Keys["ec256"].Next
		h.pass(report.CodeOK, options)
		if next == "" || h.spki() != next {
			t.Errorf("%s: the key is %s, and the next one was %s", what, h.spki(), next)
		}
		h.until(patience, "another next key", func(report.Certificate) bool {
			roll := h.remembered().Keys["ec256"]
			return roll.Next != "" && roll.Next != next && roll.Current == next
		})
	}
}

// With mode off nothing changes a key later, so a refused change is not noted: it would come as a surprise when the mode is another one again.
func TestRefusedWhileTurningOff(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	h.pass(report.CodeOK, renew)
	h.steady()
	h.edit(publishing, `mode: "off"`)
	h.pass(report.CodeOK, renew)
	h.pass(report.CodeOK, newKey) // every sender knows the next key
	if c := h.run(t.Context(), Options{NewKey: true}); c.Code == report.CodeOK || h.remembered().Keys["ec256"].Asked != nil {
		t.Errorf("%d, %+v is noted", c.Code, h.remembered().Keys["ec256"].Asked)
	}
}

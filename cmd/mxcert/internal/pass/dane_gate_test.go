package pass

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// Where a name has TLSA records, an unset mode guards them: the key stays, and a person who asks for another one is told which record to
// publish first. Nothing is ordered before.
func TestUnsetModeGuardsRecords(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "", lab.Options{})
	if c := h.pass(report.CodeOK, renew); c.TLSA != nil {
		t.Errorf("without records: %+v", c.TLSA)
	}
	h.publish(h.record())
	before, orders := h.spki(), h.placed()
	if c := h.pass(report.CodeOK, atOnce); c.TLSA == nil || c.TLSA.Mode != "check" || h.spki() != before || h.placed() != orders+1 {
		t.Fatalf("the same key: %+v", c.TLSA)
	}
	orders = h.placed()
	c := h.pass(report.CodeNotInService, newKey)
	if h.placed() != orders || h.spki() != before || c.Error.Kind != kindDANE || c.Error.Stage != "deploy" || c.Stage != report.Served {
		t.Fatalf("%d orders, %s, %+v", h.placed()-orders, c.Stage, c.Error)
	}
	next := h.remembered().Keys["ec256"].Next
	if !strings.Contains(c.Error.Hint, "3 1 1 "+next) || !strings.Contains(c.Error.Hint, h.owner()[:len(h.owner())-1]) {
		t.Errorf("the hint is %q, want the record of %s", c.Error.Hint, next)
	}
	h.publish(h.record(), "3 1 1 "+next)
	h.until(patience, "the operator has published the record", func(report.Certificate) bool { return h.spki() == next })
	if c := h.pass(report.CodeOK, renew); c.TLSA == nil || c.TLSA.State == "blocked" {
		t.Errorf("%+v", c.TLSA)
	}
}

// --ignore-dane overrides, and says what it means.
func TestIgnoreDANE(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.publish(h.record())
	before := h.spki()
	c := h.pass(report.CodeOK, Options{NewKey: true, IgnoreDANE: true})
	if h.spki() == before || !strings.Contains(strings.Join(c.Warnings, "\n"), "--ignore-dane: mxcert changes what is served") {
		t.Errorf("%s, warnings %q", h.spki(), c.Warnings)
	}
	if c.TLSA == nil || c.TLSA.State != "blocked" || !strings.Contains(strings.Join(c.Warnings, "\n"), "senders that use DANE do not accept") {
		t.Errorf("the verdict after it: %+v, %q", c.TLSA, c.Warnings)
	}
	if c := h.pass(report.CodeOK, atOnce); c.TLSA.State != "blocked" {
		t.Errorf("what is broken still renews: %+v", c.TLSA)
	}
	h.publish(h.record())
	if c := h.pass(report.CodeOK, renew); !strings.Contains(strings.Join(c.Warnings, "\n"), "; that concerns those that still hold older records, until 20") {
		t.Errorf("the record is there now: %q", c.Warnings)
	}
}

// An error is not "no records": a renewal with the same key goes on, a change of keys waits.
func TestErrorIsNotNoRecords(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "mode: check"} {
		h := newDANEHost(t, mode, lab.Options{})
		h.pass(report.CodeOK, renew)
		before, orders := h.spki(), h.placed()
		h.Primary.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
			if len(request.Question) > 0 && request.Question[0].Qtype == dns.TypeTLSA {
				reply.Rcode, reply.Answer, reply.Ns = dns.RcodeServerFailure, nil, nil
			}
			return reply
		}})
		if c := h.pass(report.CodeOK, atOnce); h.placed() != orders+1 || h.spki() != before {
			t.Errorf("%q: the same key: %+v", mode, c)
		}
		if c := h.pass(report.CodeTemporary, newKey); h.placed() != orders+1 || c.Error.Kind != kindDANEUnknown {
			t.Errorf("%q: %d orders, %+v", mode, h.placed()-orders, c.Error)
		}
		h.Primary.SetFaults(nameserver.Faults{})
		if h.pass(report.CodeOK, newKey); h.spki() == before {
			t.Errorf("%q: the key stays although nobody has records", mode)
		}
	}
}

// A refused rollback changes nothing, not even what is stored.
func TestRollbackToAKeyThatSendersDoNotKnow(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	old := h.record()
	h.pass(report.CodeOK, newKey)
	h.publish(h.record())
	record, files := h.stored("record.json"), h.file("mx.crt")
	c := h.pass(report.CodeNotInService, rollback)
	if c.Error.Kind != kindDANE || h.stored("record.json") != record || h.file("mx.crt") != files {
		t.Fatalf("%+v", c.Error)
	}
	if len(c.Error.Publish) != 1 || !strings.HasPrefix(c.Error.Publish[0], h.owner()+" ") || !strings.HasSuffix(c.Error.Publish[0], " IN TLSA "+old) {
		t.Errorf("to be published: %q, want %s", c.Error.Publish, old)
	}
	if c := h.pass(report.CodeNotInService, dryRollback); c.Error.Kind != kindDANE {
		t.Errorf("a dry run: %+v", c.Error)
	}
	h.publish(h.record(), old)
	h.until(patience, "no sender holds a set without the old key", func(report.Certificate) bool {
		return h.run(t.Context(), rollback).Code == report.CodeOK
	})
	if h.record() != old {
		t.Errorf("%s is in service, want %s", h.record(), old)
	}
}

// A state that was restored from an old backup has a key that senders do not know any more. It must not take the place of the one in service,
// also if that one is about to be overwritten.
func TestRestoredStateDoesNotGoBack(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	backup := h.backUp()
	h.pass(report.CodeOK, newKey)
	h.publish(h.record())
	h.pass(report.CodeOK, renew)
	served := h.spki()
	h.restore(backup)
	h.check(os.RemoveAll(h.Path("state", "lineages", "mx", "tlsa.json")))
	c := h.run(t.Context(), shorter)
	if c.Code != report.CodeNotInService || c.Error.Kind != kindDANE || h.spki() != served {
		t.Fatalf("%d, %+v", c.Code, c.Error)
	}
}

// The files of a mail server that somebody has overwritten come back, because senders do not accept what is there.
func TestHealingPassesTheGate(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.publish(h.record())
	h.pass(report.CodeOK, renew)
	mine, certificate := h.spki(), h.file("mx.crt")
	h.overwrite("mx.example.org")
	if h.spki() == mine {
		t.Fatal("nothing was overwritten")
	}
	h.pass(report.CodeOK, byDaemon)
	if h.file("mx.crt") != certificate {
		t.Error("the files are not back")
	}
}

// A deployment that fails goes back to the old pair, whose record is still there.
func TestFailedDeploymentGoesBackThroughTheGate(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{Preload: true})
	go h.reloadWhenChanged("")
	h.pass(report.CodeOK, renew)
	h.edit("timeout: 30s}", "timeout: 2s}")
	h.publish(h.record())
	before := h.file("mx.crt")
	c := h.pass(report.CodeNotInService, atOnce) // nobody reloads the server
	if h.file("mx.crt") != before || c.Error.Stage != "verify" {
		t.Fatalf("%+v", c.Error)
	}
}

// A record of the whole certificate does not survive a renewal. The certificate is issued, and waits for its record.
func TestRecordOfTheWholeCertificate(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.publish(h.wholeRecord())
	before, old := h.served(), h.wholeRecord()
	c := h.pass(report.CodeNotInService, atOnce)
	if h.served() != before || c.Error.Kind != kindDANE || !strings.Contains(c.Error.Hint, "3 0 1 ") || len(c.Error.Publish) != 1 || !strings.HasPrefix(c.Error.Publish[0], h.owner()+" 2 IN TLSA 3 0 1 ") {
		t.Fatalf("%s, %+v", h.served(), c.Error)
	}
	_, text, _ := strings.Cut(c.Error.Hint, "IN TLSA 3 0 1 ")
	digest, _, _ := strings.Cut(text, " ")
	h.publish(old, "3 0 1 "+digest)
	h.until(patience, "the record is there", func(c report.Certificate) bool { return c.Code == report.CodeOK && h.served() != before })
}

// Another key type has no record yet. Its certificate does not take the place of the one that senders accept, and the other key type does not
// wait for it.
func TestAnotherKeyTypeWaitsForItsRecord(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	h.publish(h.record())
	before := h.served()
	h.edit("keys: [ec256]", "keys: [ec256, rsa2048]")
	h.edit("mx.crt", "mx.{key}.crt")
	h.edit("mx.key", "mx.{key}.key")
	c := h.run(t.Context(), atOnce)
	if c.Code == report.CodeOK || c.Error.Kind != kindDANE {
		t.Fatalf("%d, %+v", c.Code, c.Error)
	}
	if _, err := os.Stat(h.Path("tls", "mx.rsa2048.crt")); err == nil {
		t.Error("the certificate of the new key type is deployed")
	}
	if h.served() != before {
		t.Error("the old file has changed")
	}
}

// A deployment that a crash interrupted, and whose key no sender knows by now, is undone: the last proven pair comes back whole.
func TestInterruptedDeploymentThatTheGateRefuses(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, "mode: check", lab.Options{})
	h.pass(report.CodeOK, renew)
	old, certificate, key := h.record(), h.file("mx.crt"), h.file("mx.key")
	h.pass(report.CodeOK, newKey)
	h.remember(func(r *state.Record) {
		slot := r.Slot(bundle.EC256)
		slot.Served, slot.Previous, r.Applying = slot.Previous, "", true
	})
	h.check(os.WriteFile(h.Path("tls", "mx.crt"), []byte(certificate), 0o600)) // with the key of the new one
	h.publish(old)
	c := h.pass(report.CodeNotInService, renew)
	if c.Error.Kind != kindDANE || h.file("mx.crt") != certificate || h.file("mx.key") != key || h.record() != old {
		t.Fatalf("%+v", c.Error)
	}
	if h.record() != old || h.lineageApplying() {
		t.Error("the deployment is still half done")
	}
}

func (h *daneHost) lineageApplying() bool {
	r := h.host.record()
	return r.Applying
}

// If there were too many sets to remember them, nobody knows what senders hold: the gate stands, and the records are looked after.
func TestTooManySetsAreGuarded(t *testing.T) {
	t.Parallel()
	o := dane.Owner{Host: "mx.example.org", Port: 25}
	guard := &tlsa{settings: dane.Settings{Mode: dane.Check}, owners: []dane.Owner{o}}
	if guard.guarded() || guard.remembers() || guard.counts() {
		t.Error("nothing is remembered")
	}
	guard.state.Memory = dane.Memory{o.Name(): {Crowded: &dane.Cached{Set: dane.Set{TTL: time.Hour}}}}
	if !guard.guarded() || !guard.remembers() || !guard.counts() {
		t.Errorf("guarded %v, remembers %v, counts %v", guard.guarded(), guard.remembers(), guard.counts())
	}
}

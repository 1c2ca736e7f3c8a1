package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// newKey is what tlsa show says about a change of the key.
func (h *host) newKey() string {
	h.t.Helper()
	var shown shownTLSA
	got := h.run("tlsa", "show", "--format", "json")
	if err := json.Unmarshal([]byte(got.stdout), &shown); err != nil {
		h.t.Fatalf("%v\n%s%s", err, got.stdout, got.stderr)
	}
	return shown.NewKey
}

// What tlsa show says about a change of the key fits what tlsa roll then does.
func TestTLSAShowSaysWhatARollNeeds(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].SPKI
	if got := h.newKey(); !strings.Contains(got, "senders check no TLSA record now, so `mxcert tlsa roll mx` changes the key at once") {
		t.Errorf("without records: %s", got)
	}
	h.records("3 1 1 " + key)
	if got := h.newKey(); !strings.Contains(got, "has to be published before the key changes") {
		t.Errorf("with records: %s", got)
	}
	if got := h.words("tlsa", "roll"); !strings.Contains(got, "next step publish the records that `mxcert tlsa show mx` prints; the change of the key is noted: the daemon (or `mxcert renew mx`) makes it") {
		t.Errorf("a roll that waits:\n%s", got)
	}
	if got := h.words("status", "mx"); !strings.Contains(got, "publishing: you have to publish "+h.owner()) {
		t.Errorf("status:\n%s", got)
	}
	h.edit(`mode: "check"`, `mode: "gate"`)
	if got := h.newKey(); !strings.Contains(got, "publish the records of the next key beside the others") {
		t.Errorf("mode gate: %s", got)
	}
	if got := h.words("status", "mx"); !strings.Contains(got, "next step `mxcert tlsa show mx` prints the records to publish") {
		t.Errorf("status with mode gate:\n%s", got)
	}
	h.publishShown()
	if got := h.newKey(); !strings.Contains(got, "every server gives the records of the next key: `mxcert tlsa roll mx`") {
		t.Errorf("published: %s", got)
	}
	eventually(t, "the key changes", func() bool { return h.report(report.CodeOK, "renew").Certificates[0].Keys[0].SPKI != key })
	if got := h.words("tlsa", "show"); !strings.Contains(got, "there is no next key yet: retiring until ") || !strings.Contains(got, "there is no next key now;") || strings.Contains(got, "the pass did not make it") {
		t.Errorf("after the change:\n%s", got)
	}
}

// words runs a command, and returns what it prints without line breaks.
func (h *host) words(line ...string) string {
	h.t.Helper()
	return strings.Join(strings.Fields(strings.ReplaceAll(h.run(line...).stdout, "\n; ", " ")), " ")
}

// An emergency that could not be finished is finished by later passes. Another one would change the key once more.
func TestUnfinishedEmergency(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "publish", lab.Options{})
	old := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	h.steady()
	h.edit(`directory: "`, `directory: "https://127.0.0.1:9/dir" # "`)
	var r rollReport
	got := h.run("tlsa", "roll", "--emergency", "--yes", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code == report.CodeOK || strings.Contains(r.Next, "--emergency") ||
		!strings.Contains(r.Next, "the daemon (or `mxcert renew mx`) goes on with the change") || !strings.Contains(r.Next, "`mxcert revoke mx --serial "+old+" --reason keyCompromise`") {
		t.Errorf("%d: %v\n%s%s", got.code, err, got.stdout, got.stderr)
	}
}

// At revoke, --ignore-dane deploys nothing.
func TestRevokeHelp(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.words("revoke", "--help"); strings.Contains(got, "deploy even") || !strings.Contains(got, "with keyCompromise: revoke even if no key can replace this one yet") {
		t.Errorf("%s", got)
	}
}

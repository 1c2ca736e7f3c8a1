package revoke

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// Reasons by name and number; those that make no sense for a certificate of one's own are refused.
func TestParseReason(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]acme.Reason{
		"unspecified": acme.Unspecified, "0": acme.Unspecified, "keyCompromise": acme.KeyCompromise, "KEYCOMPROMISE": acme.KeyCompromise, "1": acme.KeyCompromise,
		"superseded": acme.Superseded, "4": acme.Superseded, "cessationofoperation": acme.CessationOfOperation, "5": acme.CessationOfOperation,
	} {
		if got, err := ParseReason(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"2", "3", "affiliationChanged", "6", "", "x", "01"} {
		if _, err := ParseReason(text); report.CodeOf(err) != report.CodeUsage || !strings.Contains(err.Error(), "cessationOfOperation (5)") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPlainSerial(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0a1b", "0A1B", "0x0a1b", "0a:1b", "0A 1B", "a1b", "00:0a:1b", "0x:0A:1B"} {
		if got := plainSerial(text); got != "a1b" {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// stored is a lineage without a CA, with certificates of two keys.
func stored(t *testing.T) (*Revocation, []state.Generation) {
	t.Helper()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	var all []state.Generation
	for i, spki := range []string{"first key", "first key", "second key", "rsa key"} {
		all = append(all, state.Generation{ID: string(rune('a' + i)), Key: bundle.EC256, Serial: string(rune('1' + i)), SPKI: spki, NotAfter: time.Now().Add(time.Hour)})
	}
	all[3].Key = bundle.RSA2048
	r := &Revocation{lineage: store.Lineage("mx"), name: "mx", report: &Report{}, say: quiet}
	unlock, err := r.lineage.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	for _, g := range all {
		if err := os.MkdirAll(r.lineage.Directory(g.ID), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.record.Slot("ec256").Current, r.record.Slot("rsa2048").Current = "c", "d"
	return r, all
}

// Which certificates fit: the current ones, those of a key type, one by its number; an interrupted revocation comes first.
func TestFitting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what   string
		note   map[string]state.Revocation
		choice Choice
		want   string
	}{
		{"the current ones", nil, Choice{}, "c d"},
		{"of one key type", nil, Choice{Key: "rsa2048"}, "d"},
		{"an older one by its number", nil, Choice{Serial: "0x01"}, "a"},
		{"number and key type do not fit", nil, Choice{Serial: "1", Key: "rsa2048"}, ""},
		{"no such number", nil, Choice{Serial: "77"}, ""},
		{"no such key type", nil, Choice{Key: "ec384"}, ""},
		{"one was interrupted", map[string]state.Revocation{"b": {}}, Choice{}, "b"},
		{"one was interrupted, of another key type", map[string]state.Revocation{"b": {}}, Choice{Key: "rsa2048"}, "d"},
		{"one was interrupted, and another number is given", map[string]state.Revocation{"b": {}}, Choice{Serial: "1"}, "a"},
		{"one is done", map[string]state.Revocation{"b": {Done: time.Now()}}, Choice{}, "c d"},
		{"the current one is done: it can be revoked again", map[string]state.Revocation{"c": {Done: time.Now()}}, Choice{}, "c d"},
		{"one was interrupted, and has expired", map[string]state.Revocation{"expired": {}}, Choice{}, "c d"},
	} {
		r, all := stored(t)
		all = append(all, state.Generation{ID: "expired", Key: "ec256", Serial: "9", NotAfter: time.Now().Add(-time.Hour)})
		if err := os.MkdirAll(r.lineage.Directory("expired"), 0o700); err != nil {
			t.Fatal(err)
		}
		for id, note := range tt.note {
			if err := r.lineage.SaveRevocation(id, note); err != nil {
				t.Fatal(err)
			}
		}
		if got := ids(r.fitting(all, tt.choice)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

// A compromised key takes every certificate with it that has the key.
func TestWithSameKey(t *testing.T) {
	t.Parallel()
	_, all := stored(t)
	for targets, want := range map[string]string{"b": "a b", "c": "c", "d b": "a b d", "": ""} {
		chosen := slices.DeleteFunc(slices.Clone(all), func(g state.Generation) bool { return !strings.Contains(targets, g.ID) })
		if got := ids(withSameKey(all, chosen)); got != want {
			t.Errorf("%q: %q, want %q", targets, got, want)
		}
	}
}

func ids(list []state.Generation) string {
	var all []string
	for _, g := range list {
		all = append(all, g.ID)
	}
	return strings.Join(all, " ")
}

// Why nothing is revoked, with what there is.
func TestNothingToRevoke(t *testing.T) {
	t.Parallel()
	_, all := stored(t)
	for _, tt := range []struct {
		all    []state.Generation
		choice Choice
		code   report.Code
		says   string
	}{
		{nil, Choice{}, report.CodeFailed, "no certificate of mx is stored"},
		{all, Choice{Serial: "77"}, report.CodeUsage, `fits --serial "77", --key ""; stored are: 1 (ec256), 2 (ec256), 3 (ec256), 4 (rsa2048)`},
		{all, Choice{Key: "ec384"}, report.CodeUsage, `--key "ec384"`},
		{all, Choice{}, report.CodeUsage, "is current; choose one with --serial: 1 (ec256)"},
	} {
		if err := nothingToRevoke("mx", tt.all, tt.choice); report.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: exit code %d, %v", tt.choice, report.CodeOf(err), err)
		}
	}
}

// What was noted about a revocation stays: a compromised key does not become a good one.
func TestNote(t *testing.T) {
	t.Parallel()
	r, all := stored(t)
	g := all[0]
	r.reason = acme.KeyCompromise
	asked := time.Time{}
	for _, tt := range []struct {
		what              string
		reason            acme.Reason
		compromised, done bool
		want              state.Revocation
	}{
		{"asked for", acme.KeyCompromise, true, false, state.Revocation{Reason: "keyCompromise", KeyCompromised: true}},
		{"asked for again, for another reason", acme.Superseded, false, false, state.Revocation{Reason: "keyCompromise", KeyCompromised: true}},
		{"done", acme.Superseded, false, true, state.Revocation{Reason: "keyCompromise", KeyCompromised: true, Done: time.Now()}},
	} {
		r.reason = tt.reason
		if err := r.note(g, tt.compromised, tt.done); err != nil {
			t.Fatal(err)
		}
		note, ok := r.lineage.Revocation(g.ID)
		if asked.IsZero() {
			asked = note.Asked
		}
		if !ok || note.Reason != tt.want.Reason || note.KeyCompromised != tt.want.KeyCompromised || note.Done.IsZero() != tt.want.Done.IsZero() || !note.Asked.Equal(asked) || asked.IsZero() {
			t.Errorf("%s: %+v, want %+v", tt.what, note, tt.want)
		}
	}
	done, _ := r.lineage.Revocation(g.ID)
	if err := r.note(g, false, true); err != nil {
		t.Fatal(err)
	}
	if again, _ := r.lineage.Revocation(g.ID); !again.Done.Equal(done.Done) {
		t.Errorf("done at %s, and again at %s", done.Done, again.Done)
	}
}

// A key that signs for another reason than its compromise is given up, with all its certificates.
func TestGiveUpKey(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{})
	first := h.issue(pass.Options{})[0]
	second := h.issue(atOnce)[0]
	third := h.issue(newKey)[0]
	r := &Revocation{lineage: h.store().Lineage("mx"), report: &Report{}, say: quiet, reason: acme.Superseded}
	all, err := r.lineage.Generations()
	h.check(err)
	h.check(r.giveUpKey(all[0], errors.Join(errors.New("no account"), errors.New("at all"))))
	for i, g := range all {
		note, noted := r.lineage.Revocation(g.ID)
		if same := g.SPKI == first.SPKI; noted != same || note.KeyCompromised != same || !note.Done.IsZero() {
			t.Errorf("%d, of %s, %s, %s: %+v", i, first.Serial, second.Serial, third.Serial, note)
		}
	}
	if len(r.report.Warnings) != 1 || !strings.Contains(r.report.Warnings[0], "(no account; at all), so the certificate's own key signs") || !r.lineage.Compromised(first.SPKI) || r.lineage.Compromised(third.SPKI) {
		t.Errorf("%q", r.report.Warnings)
	}
}

// What comes next, for the certificate that was current, and for others.
func TestWhatNext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what       string
		target     int // of stored: 2 is current
		note       *state.Revocation
		reason     acme.Reason
		configured bool
		served     bool
		want       string
		warns      bool
	}{
		{"the current one", 2, &state.Revocation{}, acme.Superseded, true, true, "the next pass orders another certificate: mxcert renew mx does it now, a daemon within the hour", true},
		{"its key", 2, &state.Revocation{KeyCompromised: true}, acme.KeyCompromise, true, false, "the next pass orders another certificate, with a new key: mxcert renew mx does it now, a daemon within the hour", false},
		{"the end of operation", 2, &state.Revocation{}, acme.CessationOfOperation, true, false, "the next pass orders another certificate: mxcert renew mx does it now, a daemon within the hour; remove it from the configuration if you no longer need it", false},
		{"not configured", 2, &state.Revocation{}, acme.Superseded, false, false, "mx is not in the configuration: no other certificate replaces it", false},
		{"an older one", 0, &state.Revocation{}, acme.Superseded, true, false, "", false},
		{"it was refused", 2, nil, acme.Superseded, true, true, "", false},
	} {
		r, all := stored(t)
		r.Targets, r.reason, r.configured = []state.Generation{all[tt.target]}, tt.reason, tt.configured
		r.report.Certificates = []Certificate{{Served: tt.served}}
		if tt.note != nil {
			if err := r.lineage.SaveRevocation(all[tt.target].ID, *tt.note); err != nil {
				t.Fatal(err)
			}
		}
		if r.whatNext(); r.report.Next != tt.want || (len(r.report.Warnings) == 1) != tt.warns {
			t.Errorf("%s: %q, want %q; %q", tt.what, r.report.Next, tt.want, r.report.Warnings)
		}
	}
}

// The reasons beside a compromise: signed by the account, and the key stays.
func TestRevokeReasons(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{})
	key := h.issue(pass.Options{})[0]
	for reason, number := range map[acme.Reason]int{acme.Unspecified: 0, acme.Superseded: 4, acme.CessationOfOperation: 5} {
		r := h.revoke(report.CodeOK, Choice{Reason: reason})
		if c := r.Certificates[0]; !r.Changed || !c.Changed || !c.Revoked || !c.Served || c.SignedBy != "account" || h.revokedAs(key.Serial) != number || len(r.Certificates) != 1 {
			t.Errorf("%s: %+v, at the CA %d", reason, r, h.revokedAs(key.Serial))
		}
		if strings.Contains(r.Next, "remove it from the configuration") != (number == 5) {
			t.Errorf("next: %s", r.Next)
		}
		now := h.issue(pass.Options{})[0]
		if now.Serial == key.Serial || now.SPKI != key.SPKI {
			t.Errorf("%s: replaced by %+v", reason, now)
		}
		key = now
	}
	if got := h.events("revoked"); len(got) != 3 || !slices.Contains(got, "superseded") {
		t.Errorf("in the history: %q", got)
	}
	if h.revokedAs(key.Serial) >= 0 {
		t.Error("the last one is revoked")
	}
}

// Which certificate: of one key type, an older one by its serial number however it is written, one that is not configured.
func TestRevokeChoice(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Keys: []string{"ec256", "rsa2048"}})
	old, now := h.issue(pass.Options{}), h.issue(newKey)
	for _, choice := range []Choice{{Key: "ec384"}, {Serial: "1234"}, {Serial: old[0].Serial, Key: "rsa2048"}} {
		if _, err := Choose(t.Context(), h.runner(), "mx", choice); report.CodeOf(err) != report.CodeUsage || !strings.Contains(err.Error(), now[0].Serial) {
			t.Errorf("%+v: %v", choice, err)
		}
	}
	if r := h.revoke(report.CodeOK, Choice{Reason: acme.Superseded, Serial: "0x" + strings.ToUpper(old[0].Serial)}); len(r.Certificates) != 1 || r.Certificates[0].Serial != old[0].Serial || r.Next != "" || len(r.Warnings) != 0 {
		t.Errorf("an older one: %+v", r)
	}
	if c := h.renew(pass.Options{}); c.Changed {
		t.Errorf("the current one was replaced: %+v", c)
	}
	if r := h.revoke(report.CodeOK, Choice{Key: "rsa2048"}); len(r.Certificates) != 1 || r.Certificates[0].Serial != now[1].Serial || r.Next == "" {
		t.Errorf("one key type: %+v", r)
	}
	if h.revokedAs(now[0].Serial) >= 0 || h.revokedAs(old[1].Serial) >= 0 || h.revokedAs(old[0].Serial) != 4 {
		t.Error("others are revoked")
	}
	next := h.issue(pass.Options{})
	if next[0].Serial != now[0].Serial || next[1].Serial == now[1].Serial {
		t.Errorf("replaced: %+v", next)
	}
	h.edit("name: mx", "name: other")
	if r := h.revoke(report.CodeOK, Choice{Key: "ec256"}); !r.Changed || !strings.Contains(r.Next, "not in the configuration") {
		t.Errorf("not configured any more: %+v", r)
	}
	for name, says := range map[string]string{"nosuch": "it has: other", "../mx": "it has: other", `a\b`: "it has: other"} {
		if _, err := Choose(t.Context(), h.runner(), name, Choice{}); report.CodeOf(err) != report.CodeUsage || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Choose(t.Context(), h.runner(), "other", Choice{}); report.CodeOf(err) != report.CodeFailed || !strings.Contains(err.Error(), "no certificate of other is stored") {
		t.Errorf("nothing is issued: %v", err)
	}
}

// A certificate of a CA that is not configured any more is revoked there.
func TestRevokeAtAFormerCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{})
	first := h.issue(pass.Options{})[0]
	second := h.AddCA(t, ca.Options{})
	h.edit(h.CA.DirectoryURL(), second.DirectoryURL())
	if r := h.revoke(report.CodeOK, superseded); !r.Changed || r.Certificates[0].SignedBy != "account" || h.revokedAs(first.Serial) != 4 {
		t.Errorf("%+v", r)
	}
}

// If the description of a certificate is lost, the CA that is asked first for certificates revokes it.
func TestRevokeWithoutTheDescription(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{})
	first := h.issue(pass.Options{})[0]
	lineage := h.store().Lineage("mx")
	all, err := lineage.Generations()
	h.check(err)
	h.check(os.Remove(filepath.Join(lineage.Directory(all[0].ID), "meta.json")))
	if r := h.revoke(report.CodeOK, superseded); !r.Changed || r.Certificates[0].SignedBy != "account" || h.revokedAs(first.Serial) != 4 {
		t.Errorf("%+v", r)
	}
}

// Without the account the certificate's own key signs, and is given up with that.
func TestRevokeWithoutTheAccount(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{})
	first := h.issue(pass.Options{})[0]
	_, err := h.runner().CAs.Clients()[0].Registrar(quiet, func(string) {}).Register(t.Context(), true)
	h.check(err)
	r := h.revoke(report.CodeOK, superseded)
	if c := r.Certificates[0]; !c.Changed || c.SignedBy != "key" || h.revokedAs(first.Serial) != 4 || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], "own key signs") {
		t.Errorf("by another account: %+v", r)
	}
	second := h.issue(pass.Options{})[0]
	if second.SPKI == first.SPKI {
		t.Error("the key is used again")
	}
	h.check(os.RemoveAll(h.Path("state", "accounts")))
	if r := h.revoke(report.CodeOK, compromised); r.Certificates[0].SignedBy != "key" || h.revokedAs(second.Serial) != 1 {
		t.Errorf("without an account: %+v", r)
	}
	if n := h.CA.Count(ca.NewAccount); n != 2 {
		t.Errorf("%d requests for an account", n)
	}
}

// A CA that is away: nothing is said to be revoked, the certificate is replaced nevertheless, and the next revocation finishes
// the one that was meant. A refusal leaves nothing behind.
func TestRevokeFaults(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{})
	meant := h.issue(pass.Options{})[0]
	h.refuse(http.StatusForbidden, "badRevocationReason")
	if r := h.revoke(report.CodeFailed, superseded); r.Changed || r.Certificates[0].Revoked || r.Certificates[0].Error.Stage != "revoke" || r.Certificates[0].Error.Hint == "" || r.Next != "" {
		t.Errorf("refused: %+v", r)
	}
	if got := h.events("failed"); len(got) != 1 || !strings.HasPrefix(got[0], "revoke: ") {
		t.Errorf("in the history: %q", got)
	}
	if c := h.renew(pass.Options{}); c.Changed {
		t.Errorf("a refusal had the certificate replaced: %+v", c)
	}
	h.refuse(http.StatusServiceUnavailable, "serverInternal")
	if r := h.revoke(report.CodeTemporary, superseded); r.Changed || r.Certificates[0].Revoked || r.Certificates[0].Error.Kind != "ca-error" {
		t.Errorf("away: %+v", r)
	}
	now := h.issue(pass.Options{})[0]
	if now.Serial == meant.Serial {
		t.Error("it is not replaced")
	}
	h.CA.SetWrap(nil)
	if r := h.revoke(report.CodeOK, superseded); !r.Changed || r.Certificates[0].Serial != meant.Serial || h.revokedAs(now.Serial) >= 0 || h.revokedAs(meant.Serial) != 4 {
		t.Errorf("finished: %+v", r)
	}
	if c := h.renew(pass.Options{}); c.Changed {
		t.Errorf("replaced once more: %+v", c)
	}
	if r := h.revoke(report.CodeOK, Choice{Reason: acme.Superseded, Serial: meant.Serial}); r.Changed || !r.Certificates[0].Revoked || r.Certificates[0].Changed {
		t.Errorf("twice: %+v", r)
	}
}

// What is damaged here is no fault of the CA's; what has expired is not worth a request; another process comes first.
func TestRevokeWithoutTheCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{CA: ca.Options{Validity: 20 * time.Second}})
	issued := h.issue(pass.Options{})[0]
	serial := issued.Serial
	dir, err := filepath.Glob(h.Path("state", "lineages", "mx", "2*"))
	h.check(err)
	good, err := os.ReadFile(filepath.Join(dir[0], "privkey.pem"))
	h.check(err)
	h.check(os.WriteFile(filepath.Join(dir[0], "privkey.pem"), []byte("x"), 0o600))
	if r := h.revoke(report.CodeFailed, superseded); r.Certificates[0].Error.Stage != "state" || r.Changed || h.CA.Count(ca.RevokeCert) != 0 {
		t.Errorf("the key is damaged: %+v", r)
	}
	h.check(os.WriteFile(filepath.Join(dir[0], "privkey.pem"), good, 0o600))
	time.Sleep(time.Until(issued.NotAfter.Add(time.Second)))
	if r := h.revoke(report.CodeOK, superseded); r.Changed || r.Certificates[0].Revoked || len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], serial+" expired at") || h.CA.Count(ca.RevokeCert) != 0 {
		t.Errorf("expired: %+v", r)
	}
	h.check(os.WriteFile(h.Path("state", "lineages", "mx", "record.json"), []byte("{"), 0o600))
	if r := h.revoke(report.CodeOK, Choice{Serial: serial}); !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "was damaged") }) || len(h.events("repaired")) != 1 {
		t.Errorf("the record is damaged: %+v", r)
	}
	unlock, err := h.store().Lineage("mx").Lock(t.Context())
	h.check(err)
	defer unlock()
	r, err := Choose(t.Context(), h.runner(), "mx", superseded)
	h.check(err)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := r.CarryOut(ctx, quiet); report.CodeOf(err) != report.CodeTemporary || report.StageOf(err) != "lock" {
		t.Errorf("locked: %v", err)
	}
}

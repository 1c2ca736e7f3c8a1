package acme_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// A provider that cannot remove what another process made is believed when the record is gone, and only then.
func TestRecordsThatNobodyCanRemove(t *testing.T) {
	w := newWorld(t, lab.Options{})
	_, resolver, err := w.solver()
	if err != nil {
		t.Fatal(err)
	}
	hook, err := dnsprovider.New("certbot-hook", map[string]string{"CERTBOT_AUTH_HOOK": "/bin/true"}, resolver)
	if err != nil {
		t.Fatal(err)
	}
	update, _, err := w.solver()
	if err != nil {
		t.Fatal(err)
	}
	record := dnsprovider.TXT{Place: resolve.Place{Name: "_acme-challenge.mx.example.org.", Zone: "example.org."}, Domain: "mx.example.org", Value: "left"}
	if err := update.Present(t.Context(), []dnsprovider.TXT{record}); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(disk.Open(w.State)); err != nil {
		t.Fatal(err)
	}
	lineage := w.lineage(t)
	unlock, err := lineage.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := lineage.Note(state.Entry{Provider: "certbot-hook", Created: time.Now(), Records: []state.TXT{{Domain: record.Domain, Name: record.Name, Zone: record.Zone, Value: record.Value}}}); err != nil {
		t.Fatal(err)
	}
	sweep := func() error {
		return acme.CleanUp(context.Background(), lineage, acme.Only("certbot-hook", hook), resolver, func(string, string) {})
	}
	if err := sweep(); err == nil || !strings.Contains(err.Error(), "_acme-challenge.mx.example.org") {
		t.Errorf("while the record is there: %v", err)
	}
	if entries, _ := lineage.Journal(); len(entries) != 1 {
		t.Fatalf("%d entries", len(entries))
	}
	if err := update.CleanUp(t.Context(), []dnsprovider.TXT{record}); err != nil {
		t.Fatal(err)
	}
	if err := sweep(); err != nil {
		t.Errorf("when it is gone: %v", err)
	}
	if entries, _ := lineage.Journal(); len(entries) != 0 {
		t.Errorf("%d entries are left", len(entries))
	}
}

// An update that the server refuses creates nothing: no journal entry remains, and no later run warns.
func TestRefusedUpdateLeavesNoJournal(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused})
	var said []string
	_, err := w.issue(t.Context(), func(r *acme.Request) {
		r.Progress = func(_, text string) { said = append(said, text) }
	})
	if err == nil || !strings.Contains(err.Error(), "REFUSED") {
		t.Fatalf("got %v", err)
	}
	w.clean(t, "after a refused update")
	if all := strings.Join(said, "\n"); strings.Contains(all, "may remain") {
		t.Errorf("said %q", said)
	}
}

// Entries whose removal the server refuses are reported once, on a line of their own, while a record is there, and end when DNS shows
// that there is none.
func TestRefusedRemoval(t *testing.T) {
	w := newWorld(t, lab.Options{})
	store, err := state.Open(disk.Open(w.State))
	if err != nil {
		t.Fatal(err)
	}
	lineage := store.Lineage(w.Lineage)
	for _, value := range []string{"one", "two", "three"} {
		entry := state.Entry{Provider: "rfc2136", Created: time.Now(), Records: []state.TXT{{Domain: "mx.example.org", Name: "_acme-challenge.mx.example.org.", Zone: "example.org.", Value: value}}}
		if _, err := lineage.Note(entry); err != nil {
			t.Fatal(err)
		}
		if err := w.World.Add(`_acme-challenge.mx.example.org. 60 IN TXT "` + value + `"`); err != nil {
			t.Fatal(err)
		}
	}
	w.Primary.SetFaults(nameserver.Faults{UpdateRcode: dns.RcodeRefused})
	if err := w.sweep(t); err == nil || strings.Count(err.Error(), "REFUSED") != 1 || strings.Contains(err.Error(), "\n") {
		t.Errorf("while the records are there: %v", err)
	}
	if entries, err := lineage.Journal(); err != nil || len(entries) != 3 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if err := w.World.Remove("_acme-challenge.mx.example.org", dns.TypeTXT); err != nil {
		t.Fatal(err)
	}
	if err := w.sweep(t); err != nil {
		t.Errorf("when there are none: %v", err)
	}
	w.clean(t, "when there are none")
}

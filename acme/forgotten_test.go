package acme_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"
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
		return acme.CleanUp(context.Background(), lineage, "certbot-hook", hook, resolver, func(string, string) {})
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

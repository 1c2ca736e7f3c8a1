package acme

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// TestBudgetOfAPrivateCA: how many first certificates mxcert orders at once is the operator's decision, unless the CA is public.
func TestBudgetOfAPrivateCA(t *testing.T) {
	const private, public = "https://ca.example.org/directory", "https://acme-v02.api.letsencrypt.org/directory"
	for _, tt := range []struct {
		name, directory string
		limits          *schedule.Limits
		want            int // of 500 different names
		hint            string
	}{
		{"none set", private, nil, 189, "acme.limits"},
		{"none", private, &schedule.Limits{}, 500, ""},
		{"300/3h", private, &schedule.Limits{Orders: schedule.Rate{N: 300, Per: 3 * time.Hour}, NewUseAll: true}, 300, "acme.limits"},
		{"public", public, nil, 189, "mxcert history"},
	} {
		store, err := state.Open(disk.Open(t.TempDir() + "/state"))
		if err != nil {
			t.Fatal(err)
		}
		c := New(Settings{Directory: tt.directory, Limits: tt.limits}, store)
		var ledger schedule.Ledger
		placed, held := 0, error(nil)
		for i := range 500 {
			claim := Claim{Names: []string{fmt.Sprintf("mx.example%d.org", i)}, New: true}
			if held = c.overBudget(&ledger, claim); held != nil {
				break
			}
			ledger.Place(time.Now(), claim.purchase())
			placed++
		}
		if placed != tt.want {
			t.Errorf("%s: %d orders, want %d", tt.name, placed, tt.want)
		}
		h, ok := errors.AsType[*schedule.Held](held)
		if ok != (tt.hint != "") || ok && (!strings.Contains(h.Hint(), tt.hint) || strings.Contains(h.Hint(), "acme.limits") != (tt.directory == private)) {
			t.Errorf("%s: %v", tt.name, held)
		}
		c.Close()
	}
}

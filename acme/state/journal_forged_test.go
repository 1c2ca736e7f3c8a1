package state_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
)

// good is a record as mxcert writes it, with a CNAME that leads to another zone.
var good = state.TXT{Domain: "xn--mx-fka.example.org", Name: "0b7d.acme_dns.example.net.", Zone: "Example.net.",
	Value: "-LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmC", Token: "LoqXcYV8_q5ONbJQ-bmR7S", KeyAuth: "LoqXcYV8_q5ONbJQ-bmR7S.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"}

// TestForgedJournal: what an entry says goes to providers, which may be programs that root runs. An entry that mxcert would not have
// written is reported with its file and stays there for a person to look at; the others of the lineage are used.
func TestForgedJournal(t *testing.T) {
	for what, forge := range map[string]func(e *state.Entry, r *state.TXT){
		"a path as domain":           func(_ *state.Entry, r *state.TXT) { r.Domain = "../../cron.d/x" },
		"a command as domain":        func(_ *state.Entry, r *state.TXT) { r.Domain = "$(id).example.org" },
		"an option as domain":        func(_ *state.Entry, r *state.TXT) { r.Domain = "-rf.example.org" },
		"a list as domain":           func(_ *state.Entry, r *state.TXT) { r.Domain = "a.example.org,b.example.org" },
		"a wildcard as domain":       func(_ *state.Entry, r *state.TXT) { r.Domain = "*.example.org" },
		"no domain":                  func(_ *state.Entry, r *state.TXT) { r.Domain = "" },
		"an escape in the name":      func(_ *state.Entry, r *state.TXT) { r.Name = `a\032b.example.net.` },
		"two lines in the name":      func(_ *state.Entry, r *state.TXT) { r.Name = "a\n.example.net." },
		"an empty label":             func(_ *state.Entry, r *state.TXT) { r.Name = "a..example.net." },
		"a label that is long":       func(_ *state.Entry, r *state.TXT) { r.Name = strings.Repeat("a", 64) + ".example.net." },
		"a name that is long":        func(_ *state.Entry, r *state.TXT) { r.Name = strings.Repeat("a.", 130) + "example.net." },
		"a name outside of the zone": func(_ *state.Entry, r *state.TXT) { r.Name = "_acme-challenge.badexample.net." },
		"a zone that is no name":     func(_ *state.Entry, r *state.TXT) { r.Zone = ";." },
		"a command as value":         func(_ *state.Entry, r *state.TXT) { r.Value = "`id`" },
		"a path as token":            func(_ *state.Entry, r *state.TXT) { r.Token = "../x" },
		"a command as key auth":      func(_ *state.Entry, r *state.TXT) { r.KeyAuth = "a.b.c d" },
		"a value that is long":       func(_ *state.Entry, r *state.TXT) { r.Value = strings.Repeat("a", 100_000) },
		"a provider on two lines":    func(e *state.Entry, _ *state.TXT) { e.Provider = "exec\nroot" },
	} {
		dir := open(t)
		l := dir.Lineage("mx")
		if _, err := l.Note(state.Entry{Provider: "exec", Records: []state.TXT{good}, Created: time.Now()}); err != nil {
			t.Fatal(err)
		}
		forged := good
		entry := state.Entry{Version: 1, Lineage: "mx", Provider: "exec", Created: time.Now()}
		forge(&entry, &forged)
		entry.Records = []state.TXT{good, forged}
		text, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		path := write(t, string(text), dir.Path(), "journal", "mx.20260101T000000000Z-01234567.json")
		entries, err := l.Journal()
		if len(entries) != 1 || err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") || strings.ContainsAny(err.Error(), "\n") || len(err.Error()) > 700 {
			t.Errorf("%s: %d entries, %v", what, len(entries), err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: the file is gone: %v", what, err)
		}
		if found, err := dir.Inspect(); err != nil || len(found) != 1 || found[0].Subject != path || !strings.Contains(found[0].Hint, "remove the file") {
			t.Errorf("%s: found %+v, %v", what, found, err)
		}
		if _, err := l.Note(entry); err == nil {
			t.Errorf("%s: it can be noted", what)
		}
	}
}

package adopt_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

// current is the serial number of the current certificate of a lineage; "" if there is none.
func current(t *testing.T, store *state.Book, name string, key bundle.KeyType) string {
	t.Helper()
	lineage := store.Lineage(name)
	record, _, err := lineage.Look()
	if err != nil {
		t.Fatal(err)
	}
	if record.Slot(key).Current == "" {
		return ""
	}
	g, err := lineage.Generation(record.Slot(key).Current)
	if err != nil {
		t.Fatal(err)
	}
	return g.Serial
}

// Of several certificates for the same names, the valid one that is valid for longest is taken, in whatever order they are found, with
// --force, too; the result says which were left out.
func TestTakeSeveral(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	names := []string{"mx.example.org", "host7.example.org"}
	older, expired := ca.Issue(t, -2*time.Minute, names...), ca.Issue(t, -time.Minute, names...)
	shorter, longest := ca.Issue(t, life-24*time.Hour, names...), ca.Issue(t, life, names...)
	bundles := map[string]*bundle.Bundle{"mx-0001": expired, "mx-0002": longest, "mx": older, "mx-0003": shorter}
	for _, order := range [][]string{{"mx-0001", "mx-0002", "mx", "mx-0003"}, {"mx-0002", "mx-0001", "mx-0003", "mx"}, {"mx", "mx-0003", "mx-0001", "mx-0002"}} {
		for _, force := range []bool{false, true} {
			store, _ := book(t)
			var found []adopt.Foreign
			for _, name := range order {
				f := foreign(name, bundles[name])
				f.Source = name
				found = append(found, f)
			}
			o := adopt.Options{Force: force, DryRun: true, Configured: []adopt.Configured{{Name: "here", Names: names, Keys: []bundle.KeyType{"ec256"}}}}
			dry := adopt.Take(t.Context(), store, found, o)
			o.DryRun = false
			taken := adopt.Take(t.Context(), store, found, o)
			for i, one := range taken {
				best := order[i] == "mx-0002"
				if one.Err != nil || one.Name != "here" || one.Stored != best || one.Chosen != best || dry[i].Chosen != best || dry[i].Stored {
					t.Errorf("%v, force %v: %+v; the dry run: %+v", order, force, one, dry[i])
				}
				if !best {
					says(t, one.Notes, "left out: mx-0002 is for the same names and valid until")
					continue
				}
				says(t, one.Notes, "left out, for the same names: mx-0001 (serial "+expired.Serial()+", expired ")
				says(t, one.Notes, "left out, for the same names: mx-0003 (serial "+shorter.Serial()+", valid until ")
			}
			if got := current(t, store, "here", "ec256"); got != longest.Serial() {
				t.Errorf("%v, force %v: %s is current", order, force, got)
			}
			if events := len(mustRecord(t, store, "here").Events); events != 1 {
				t.Errorf("%d events", events)
			}
		}
	}
}

func mustRecord(t *testing.T, store *state.Book, name string) state.Record {
	t.Helper()
	record, _, err := store.Lineage(name).Look()
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// What may take the place of a certificate that mxcert has already.
func TestTakeReplaces(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	issue := func(life time.Duration) *bundle.Bundle { return ca.Issue(t, life, "mx.example.org") }
	alone := func(b *bundle.Bundle) adopt.Foreign {
		f := foreign("mx", b)
		f.Chain.PEM = b.LeafPEM()
		return f
	}
	const served, revoked = "served", "revoked"
	for _, tt := range []struct {
		what         string
		have         adopt.Foreign
		now          string // what happened to it since
		comes        adopt.Foreign
		plain, force bool // whether it takes the place, without and with --force
		note         string
	}{
		{"a longer one", foreign("mx", issue(life)), "", foreign("mx", issue(life+time.Hour)), false, true, "keeps it; --force replaces it"},
		{"a longer one, of one in service", foreign("mx", issue(life)), served, foreign("mx", issue(life+time.Hour)), false, true, "keeps it; --force replaces it"},
		{"a shorter one", foreign("mx", issue(life)), "", foreign("mx", issue(life-time.Hour)), false, true, "keeps it; --force replaces it"},
		{"a shorter one, of one in service", foreign("mx", issue(life)), served, foreign("mx", issue(life-time.Hour)), false, false, "keeps it"},
		{"an expired one", foreign("mx", issue(life)), "", foreign("mx", issue(-time.Minute)), false, false, "one that expired or lacks its issuer never replaces a valid one"},
		{"one without its issuer", foreign("mx", issue(life)), "", alone(issue(life + time.Hour)), false, false, "never replaces a valid one"},
		{"a valid one, of an expired one", foreign("mx", issue(-time.Minute)), served, foreign("mx", issue(life)), true, true, "which it replaces"},
		{"a valid one, of one without its issuer", alone(issue(life)), "", foreign("mx", issue(life-time.Hour)), true, true, "which it replaces"},
		{"a valid one, of a revoked one", foreign("mx", issue(life)), revoked, foreign("mx", issue(life-time.Hour)), true, true, "which it replaces"},
		{"an expired one, of an expired one", foreign("mx", issue(-2*time.Minute)), "", foreign("mx", issue(-time.Minute)), false, true, "keeps it; --force replaces it"},
	} {
		for _, force := range []bool{false, true} {
			store, _ := book(t)
			if first, err := take(t, store, tt.have, adopt.Options{}); err != nil || !first.Stored {
				t.Fatalf("%s: %+v", tt.what, first)
			}
			lineage, record := store.Lineage("mx"), mustRecord(t, store, "mx")
			slot := record.Slot("ec256")
			switch tt.now {
			case served:
				slot.Served = slot.Current
				if err := lineage.Save(record); err != nil {
					t.Fatal(err)
				}
			case revoked:
				if err := lineage.SaveRevocation(slot.Current, state.Revocation{Reason: "superseded"}); err != nil {
					t.Fatal(err)
				}
			}
			want := tt.plain
			if force {
				want = tt.force
			}
			dry, _ := take(t, store, tt.comes, adopt.Options{Force: force, DryRun: true})
			got, err := take(t, store, tt.comes, adopt.Options{Force: force})
			if err != nil || got.Stored != want || dry.Chosen != want || (current(t, store, "mx", "ec256") == got.Serial) != want {
				t.Errorf("%s, force %v: stored %v, the dry run %v, %q, %v", tt.what, force, got.Stored, dry.Chosen, got.Notes, err)
			}
			if !force {
				says(t, got.Notes, tt.note)
			}
			if tt.now == revoked {
				if back, err := take(t, store, tt.have, adopt.Options{Force: true}); err != nil || back.Stored {
					t.Errorf("a revoked certificate came back: %+v, %v", back, err)
				}
			}
		}
	}
}

// A compromised key does not hide a good certificate for the same names.
func TestTakeBesideACompromisedKey(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	bad, good := ca.Issue(t, life, "mx.example.org"), ca.Issue(t, life-time.Hour, "mx.example.org")
	store, _ := book(t)
	if _, err := take(t, store, foreign("mx", bad), adopt.Options{}); err != nil {
		t.Fatal(err)
	}
	record := mustRecord(t, store, "mx")
	if err := store.Lineage("mx").SaveRevocation(record.Slot("ec256").Current, state.Revocation{KeyCompromised: true}); err != nil {
		t.Fatal(err)
	}
	taken := adopt.Take(t.Context(), store, []adopt.Foreign{foreign("mx", bad), foreign("mx-0001", good)}, adopt.Options{})
	if taken[0].Err == nil || !strings.Contains(taken[0].Error, "compromised") || taken[0].Hint == "" || taken[1].Err != nil || !taken[1].Stored {
		t.Errorf("%+v", taken)
	}
}

// *.example.org and example.org have different names, and so have two sets of DNS names that would get the same one: in the configuration, in
// the tree, or in what mxcert has. Another import gives the same names.
func TestTakeNamesDiffer(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	found := []adopt.Foreign{
		foreign("_.example.org", ca.Issue(t, life, "*.example.org")), foreign("example.org", ca.Issue(t, life, "example.org")),
		foreign("MX", ca.Issue(t, life, "mx.example.org")), foreign("mx", ca.Issue(t, life, "mx.example.org", "imap.example.org")),
		foreign("list", ca.Issue(t, life, "lists.example.org")), foreign("Mail-", ca.Issue(t, life, "smtp.example.org")),
	}
	o := adopt.Options{Configured: []adopt.Configured{{Name: "list", Names: []string{"lists.example.org", "lists.example.net"}}, {Name: "mail", Names: []string{"smtp.example.org"}, Keys: []bundle.KeyType{"ec256"}}}}
	want := []string{"wildcard.example.org", "example.org", "mx", "mx-2", "list-2", "mail"}
	store, _ := book(t)
	for range 2 {
		for i, one := range adopt.Take(t.Context(), store, found, o) {
			if one.Err != nil || one.Name != want[i] || (one.Proposal == "") != (want[i] == "mail") || one.Proposal != "" && !strings.Contains(one.Proposal, `name: "`+want[i]+`"`) ||
				current(t, store, one.Name, "ec256") != one.Serial {
				t.Errorf("%s: %+v", want[i], one)
			}
		}
		slices.Reverse(found)
		slices.Reverse(want)
	}
	taken, _ := take(t, store, found[len(found)-2], o)
	says(t, taken.Notes, "mxcert has this certificate already")
	list, _ := take(t, store, foreign("list", ca.Issue(t, life, "lists.example.org")), o)
	says(t, list.Notes, "the configuration has list for lists.example.org, lists.example.net: it keeps this key only if its domains are exactly lists.example.org")
	long, _ := take(t, store, foreign(strings.Repeat("x", 70), ca.Issue(t, life, "a.example.org")), o)
	longer, _ := take(t, store, foreign(strings.Repeat("x", 70), ca.Issue(t, life, "b.example.org")), o)
	if len(long.Name) != 64 || len(longer.Name) != 64 || !strings.HasSuffix(longer.Name, "x-2") {
		t.Errorf("%s, %s", long.Name, longer.Name)
	}
}

// The key that a mail server uses now is kept, even if another certificate is valid for longer, or mxcert has ordered one that never was in
// service.
func TestTakeKeyInService(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	expired, used, longest := ca.Issue(t, -time.Minute, "mx.example.org"), ca.Issue(t, life-time.Hour, "mx.example.org"), ca.Issue(t, life, "mx.example.org")
	root := tree(t, map[string]string{"pair.crt": string(used.FullchainPEM()), "combined.pem": string(expired.CombinedPEM()), "rubbish": "x"})
	var files []string
	for _, name := range []string{"pair.crt", "combined.pem", "rubbish", "none", "."} {
		files = append(files, filepath.Join(root, name))
	}
	keys := adopt.KeysInService(files)
	if len(keys) != 2 || keys[used.SPKI()] != files[0] || keys[expired.SPKI()] != files[1] {
		t.Fatalf("%v", keys)
	}
	found := []adopt.Foreign{foreign("expired", expired), foreign("used", used), foreign("longest", longest)}
	store, _ := book(t)
	taken := adopt.Take(t.Context(), store, found, adopt.Options{InService: keys, Configured: []adopt.Configured{{Name: "mx", Names: []string{"mx.example.org"}, Keys: []bundle.KeyType{"ec256"}}}})
	if taken[0].Stored || !taken[1].Stored || taken[2].Stored || current(t, store, "mx", "ec256") != used.Serial() {
		t.Errorf("%+v", taken)
	}
	says(t, taken[2].Notes, "its key is in service: "+files[0])

	store, _ = book(t)
	for i, f := range []adopt.Foreign{foreign("mx", longest), foreign("mx", used)} {
		if one, err := take(t, store, f, adopt.Options{InService: keys}); err != nil || !one.Stored {
			t.Errorf("%d: %+v, %v", i, one, err)
		}
	}
	if one, _ := take(t, store, foreign("mx", longest), adopt.Options{InService: keys}); one.Stored {
		t.Errorf("%+v", one)
	}
}

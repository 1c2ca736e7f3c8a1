package acme_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

const (
	org = "example.org"
	com = "example.com"
)

// newZones is a world with a TSIG key for each zone: the key "org." may update example.org only, "com." only example.com.
func newZones(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, lab.Options{Secondaries: 1})
	for _, zone := range []string{org, com} {
		w.Accounts = append(w.Accounts, w.keyFor(t, zone, strings.TrimPrefix(zone, "example.")+".", zone+"."))
	}
	return w
}

// keyFor makes a key for the zones of the name server, and its account for the zone of the configuration.
func (w *world) keyFor(t *testing.T, zone, name string, allowed ...string) dnsAccount {
	t.Helper()
	a := dnsAccount{Zone: zone, Key: name, Secret: base64.StdEncoding.EncodeToString([]byte("the secret of the key " + name))}
	if err := w.World.AddKey(a.Key, "hmac-sha256.", a.Secret, allowed...); err != nil {
		t.Fatal(err)
	}
	return a
}

// updates lists the changes of zones, in any order: zone, key, how many records were added and removed, and the answer.
func (w *world) updates() []string {
	var list []string
	for _, u := range w.World.Updates() {
		list = append(list, fmt.Sprintf("%s by %s +%d -%d: %d", u.Zone, u.Key, len(u.Adds), len(u.Deletes), u.Rcode))
	}
	slices.Sort(list)
	return list
}

// program makes a script for the provider exec.
func (w *world) program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// The zone in which a challenge lies, after CNAMEs, decides which account makes its record: one message for each zone and account, with the
// right key.
func TestZonesHaveTheirOwnKeys(t *testing.T) {
	t.Parallel()
	w := newZones(t)
	w.Accounts = append(w.Accounts, w.keyFor(t, "deep.example.org", "deep.", org+"."), w.keyFor(t, "", "others.", "example.net."))
	if err := errors.Join(w.World.AddZone("example.net.", "@ NS ns1.example.org.", "mx A 127.0.0.1"), w.World.Add(
		"_acme-challenge.alias.example.org. 60 IN CNAME alias.acme.example.com.",
		"*.wild.example.org. 60 IN CNAME www.example.com.",
	)); err != nil {
		t.Fatal(err)
	}
	w.Names = []string{"example.org", "*.example.org", "mx.example.com", "alias.example.org", "imap.wild.example.org", "a.deep.example.org", "deep.example.org", "mx.example.net"}
	issued := w.order(t, nil)
	if got := issued.Bundle.Leaf().DNSNames; len(got) != len(w.Names) {
		t.Errorf("certificate for %q", got)
	}
	want := []string{
		"example.com. by com. +0 -2: 0", "example.com. by com. +2 -0: 0",
		"example.net. by others. +0 -1: 0", "example.net. by others. +1 -0: 0",
		"example.org. by deep. +0 -2: 0", "example.org. by deep. +2 -0: 0",
		"example.org. by org. +0 -3: 0", "example.org. by org. +3 -0: 0",
	}
	if got := w.updates(); !slices.Equal(got, want) {
		t.Errorf("updates\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.clean(t, "after success")
}

// Several accounts cost the CA nothing more, and DNS one change more for each account.
func TestZonesAskNoMore(t *testing.T) {
	t.Parallel()
	costs := func(w *world) (requests, messages, changes int) {
		w.Names = []string{"mx.example.org", "host7.example.org", "mx.example.com"}
		w.prompt()
		w.register(t)
		w.CA.ResetRequests()
		w.World.ResetLog()
		w.order(t, nil)
		return w.CA.Count(), w.asked() - len(w.World.Updates()), len(w.World.Updates())
	}
	one := newWorld(t, lab.Options{Secondaries: 1})
	requests, messages, changes := costs(one)
	moreRequests, moreMessages, moreChanges := costs(newZones(t))
	if moreRequests > requests || moreMessages > messages || changes != 4 || moreChanges != 4 {
		t.Errorf("with an account for each zone: %d requests, %d questions, %d changes; with one for all: %d, %d, %d", moreRequests, moreMessages, moreChanges, requests, messages, changes)
	}
}

// A name whose challenge is in no zone with an account ends the order before anything is made.
func TestZonesThatDoNotCover(t *testing.T) {
	t.Parallel()
	w := newZones(t)
	w.Accounts = w.Accounts[:1]
	w.Names = []string{"mx.example.org", "mail.example.com"}
	_, err := w.issue(t.Context(), nil)
	e, ok := errors.AsType[*dnsprovider.Error](err)
	if !ok || e.Kind() != "dns-config" || e.Temporary() || !strings.Contains(e.Error(), "_acme-challenge.mail.example.com (zone example.com): in none of dns.zones") || strings.Contains(e.Error(), "mx.example.org") || !strings.Contains(e.Hint(), "dns.zones") {
		t.Errorf("got %v", err)
	}
	if w.CA.Count(ca.Challenge) != 0 || len(w.World.Updates()) != 0 {
		t.Errorf("%v, %q", w.tally(), w.updates())
	}
	w.clean(t, "after the failure")
}

// If one account fails, the error names it and its names, the CA is not asked to look, and the records of the others are removed.
func TestOneAccountFails(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		change func(w *world)
		says   []string
	}{
		"a key without the right": {func(w *world) { w.Accounts[1].Key, w.Accounts[1].Secret = w.Accounts[0].Key, w.Accounts[0].Secret },
			[]string{"DNS provider rfc2136 (dns.zones: example.com): cannot create TXT records for mail.example.com in zone example.com", "REFUSED"}},
		"a program that fails": {func(w *world) {
			w.Accounts[1] = dnsAccount{Zone: com, Program: w.program(t, "[ $1 = cleanup ] || { echo no such zone >&2; exit 1; }\n")}
		},
			[]string{"DNS provider exec (dns.zones: example.com): cannot create TXT record _acme-challenge.mail.example.com", "no such zone"}},
		"both": {func(w *world) { w.Accounts[0].Zone, w.Accounts[1].Zone = com, org },
			[]string{"(dns.zones: example.com): cannot create TXT records for mail.example.com", "(dns.zones: example.org): cannot create TXT records for mx.example.org"}},
	} {
		w := newZones(t)
		w.Names = []string{"mx.example.org", "mail.example.com"}
		tt.change(w)
		said := &tape{}
		_, err := w.issue(t.Context(), func(r *acme.Request) { r.Progress = said.say })
		for _, part := range tt.says {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q", what, err, part)
			}
		}
		if w.CA.Count(ca.Challenge) != 0 || !w.stored(t) || said.has("may remain") {
			t.Errorf("%s: %v, stored %v, said %q", what, w.tally(), w.stored(t), said.lines)
		}
		w.clean(t, what)
	}
}

// An account that no name needs is not set up: its fault does not matter.
func TestUnusedAccount(t *testing.T) {
	t.Parallel()
	w := newZones(t)
	w.Accounts = append(w.Accounts, dnsAccount{Zone: "example.net", Key: "net.", Secret: "no base64!"})
	w.Names = []string{"mx.example.org"}
	w.order(t, nil)
	w.Names = []string{"mx.example.org", "mail.example.com"}
	w.Accounts[1].Secret = "no base64!"
	if _, err := w.issue(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "(dns.zones: example.com)") || strings.Contains(err.Error(), "no base64!") {
		t.Errorf("an account that is needed: %v", err)
	}
	w.clean(t, "after the failure")
}

// Names of a provider that holds one record are proven in turn, those of the other accounts together.
func TestZonesWithOneRecordAtATime(t *testing.T) {
	t.Parallel()
	w := newZones(t)
	w.Names = []string{"mail.example.com", "a.example.org", "b.example.com", "*.example.org", "example.org"}
	w.CA.ResetRequests()
	solver := &single{pause: 60 * time.Millisecond, lineage: w.lineage(t)}
	issued := w.order(t, func(r *acme.Request) {
		inner, err := r.Accounts[1].Solver()
		if err != nil {
			t.Fatal(err)
		}
		solver.Solver = inner
		r.Accounts[1] = dnsprovider.NewAccount(com, "rfc2136", func() (dnsprovider.Solver, error) { return solver, nil })
	})
	slices.Sort(solver.history)
	if len(issued.Bundle.Leaf().DNSNames) != 5 || !slices.Equal(solver.history, []string{"b.example.com", "mail.example.com"}) {
		t.Errorf("certificate for %q, in turn %q", issued.Bundle.Leaf().DNSNames, solver.history)
	}
	want := []string{"example.com. by com. +0 -1: 0", "example.com. by com. +0 -1: 0", "example.com. by com. +1 -0: 0", "example.com. by com. +1 -0: 0", "example.org. by org. +0 -3: 0", "example.org. by org. +3 -0: 0"}
	if got := w.updates(); !slices.Equal(got, want) {
		t.Errorf("updates %q", got)
	}
	if w.CA.Count(ca.Challenge) != 5 {
		t.Errorf("%v", w.tally())
	}
	w.clean(t, "after success")
}

// dies orders in another process, which must not end by itself.
func (w *world) dies(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(w.setup)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), killEnv+"="+string(text))
	out, err := child.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("it was not killed: %v, %s", err, out)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("it was not killed: %v, %s", err, out)
	}
}

// killed orders in another process, which dies after the account of example.org has made its record, while the program of the other
// account is at work. log is where the program notes its calls.
func (w *world) killed(t *testing.T) (log string) {
	t.Helper()
	dir := t.TempDir()
	log, made := filepath.Join(dir, "calls"), filepath.Join(dir, "made")
	w.Accounts[1] = dnsAccount{Zone: com, Program: w.program(t, fmt.Sprintf(`echo "$1 $2" >>%s
[ $1 = present ] || exit 0
until [ -e %s ]; do sleep 0.02; done
kill -9 $PPID
`, log, made))}
	w.Names = []string{"mx.example.org", "mail.example.com"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for w.World.UpdateCount(lab.Zone) == 0 && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		_ = os.WriteFile(made, nil, 0o600)
	}()
	w.dies(t)
	if left := w.World.Challenges(); len(left) != 1 || len(left["_acme-challenge.mx.example.org."]) != 1 {
		t.Fatalf("after the kill: %v", left)
	}
	if entries, err := w.lineage(t).Journal(); err != nil || len(entries) != 2 {
		t.Fatalf("the journal has %v, %v", entries, err)
	}
	w.World.ResetLog()
	return log
}

// After kill -9 between the writes of two accounts, the next run removes the record by the account that made it, also if the
// configuration has changed since.
func TestKilledBetweenTwoAccounts(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		change func(w *world)
		key    string
		left   int // entries of the journal
		says   string
	}{
		"the same configuration":                {func(*world) {}, "org.", 0, ""},
		"the accounts in another order":         {func(w *world) { slices.Reverse(w.Accounts) }, "org.", 0, ""},
		"the account is now that of all others": {func(w *world) { w.Accounts[0].Zone = "" }, "org.", 0, ""},
		"the account is now of a zone below":    {func(w *world) { w.Accounts[0].Zone = "mx.example.org" }, "org.", 0, ""},
		"another key":                           {func(w *world) { w.Accounts[0] = w.keyFor(t, org, "new.", org+".") }, "new.", 0, ""},
		"a more special account beside it": {func(w *world) {
			w.Accounts = append(w.Accounts, w.keyFor(t, "mx.example.org", "mx.", org+"."))
		}, "org.", 0, ""},
		"the account is gone": {func(w *world) { w.Accounts = w.Accounts[1:] }, "", 1,
			"TXT record _acme-challenge.mx.example.org. was created by the provider rfc2136 (dns.zones: example.org) and still exists: remove it by hand"},
		"another provider": {func(w *world) { w.Accounts[0] = dnsAccount{Zone: org, Program: "/bin/true"} }, "", 1, "remove it by hand"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newZones(t)
			log := w.killed(t)
			tt.change(w)
			err := w.sweep(t)
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v", err)
			}
			entries, journal := w.lineage(t).Journal()
			if journal != nil || len(entries) != tt.left || len(w.World.Challenges()) != tt.left {
				t.Errorf("left %v, %v; %v", entries, journal, w.World.Challenges())
			}
			if updates := w.World.Updates(); tt.left == 0 && (len(updates) != 1 || updates[0].Key != tt.key || len(updates[0].Deletes) != 1) {
				t.Errorf("updates %q", w.updates())
			}
			calls, _ := os.ReadFile(log)
			if want := "present _acme-challenge.mail.example.com.\ncleanup _acme-challenge.mail.example.com.\n"; string(calls) != want {
				t.Errorf("the program was called: %q", calls)
			}
		})
	}
}

// Each account says for its own records which names it does not prove: what one refuses says nothing about the names of the other.
func TestOptionalNamesOfAnotherAccount(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		change func(w *world)
		want   []string
	}{
		"a key without the right": {func(w *world) { w.Accounts[1].Key, w.Accounts[1].Secret = w.Accounts[0].Key, w.Accounts[0].Secret },
			[]string{"a.example.com!", "mail.example.com!"}},
		"a program that fails for all": {func(w *world) {
			w.Accounts[1] = dnsAccount{Zone: com, Program: w.program(t, "[ $1 = cleanup ] || exit 1\n")}
		}, []string{"a.example.com", "mail.example.com"}},
		"a program that fails for one": {func(w *world) {
			w.Accounts[1] = dnsAccount{Zone: com, Program: w.program(t, "[ $1 = cleanup ] || case $2 in *mail*) exit 1 ;; esac\n")}
		}, []string{"mail.example.com"}},
		"one that cannot even clean up": {func(w *world) {
			w.Accounts[1] = dnsAccount{Zone: com, Program: w.program(t, "exit 1\n")}
		}, []string{"a.example.com", "mail.example.com"}},
	} {
		w := newZones(t)
		w.Names = []string{"mx.example.org", "mail.example.com", "a.example.com"}
		tt.change(w)
		_, err := w.issue(t.Context(), func(r *acme.Request) { r.Optional = w.Names[1:] })
		if got := blames(err, w.Names...); !slices.Equal(got, tt.want) || w.CA.Count(ca.Challenge) != 0 {
			t.Errorf("%s: it is about %q, want %q: %v", what, got, tt.want, err)
		}
	}
}

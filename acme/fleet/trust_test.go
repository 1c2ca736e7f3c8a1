package fleet

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// stated returns a statement.
func stated(t testing.TB) func(state.Versioned, error) state.Versioned {
	return func(value state.Versioned, err error) state.Versioned {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// wantTrust fails unless a host trusts these, and encrypts to them.
func wantTrust(t testing.TB, what string, tr *trust, want ...*seal.Identity) {
	t.Helper()
	var recipients []seal.Recipient
	for _, identity := range want {
		recipients = append(recipients, identity.Recipient())
		if !tr.trusts(identity.Recipient()) {
			t.Errorf("%s: %s is not trusted", what, identity)
		}
	}
	slices.Sort(recipients)
	if got := tr.recipients(); !slices.Equal(got, recipients) {
		t.Errorf("%s: the recipients are\n%v, want\n%v", what, got, recipients)
	}
}

func TestTrustIsConfiguredAndAddedWithoutRemoved(t *testing.T) {
	a, b, c, d := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	now := time.Now()
	ok := stated(t)
	start := newTrust("berlin", a.Recipient(), []seal.Recipient{b.Recipient()})
	wantTrust(t, "as configured", start, a, b)

	addC, addD := ok(start.add(b, c.Recipient(), "hc", now)), ok(start.add(c, d.Recipient(), "hd", now))
	both, problems := start.learn([]state.Versioned{addD, addC}) // in any order
	wantTrust(t, "two were added", both, a, b, c, d)
	if len(problems) != 0 {
		t.Errorf("refused: %v", problems)
	}
	wantTrust(t, "a trust is not changed", start, a, b)

	if got := both.vouched(b.Recipient()); !slices.Equal(got, sorted(map[seal.Recipient]bool{c.Recipient(): true, d.Recipient(): true})) {
		t.Errorf("with b leave %v", got)
	}
	removal, err := both.remove(a, b.Recipient(), "hb", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	without, problems := both.learn(removal)
	wantTrust(t, "b was removed, and whom it let in", without, a)
	if len(problems) != 0 {
		t.Errorf("refused: %v", problems)
	}

	kept, err := both.remove(a, b.Recipient(), "hb", []seal.Recipient{c.Recipient()}, now)
	if err != nil {
		t.Fatal(err)
	}
	if last := kept[len(kept)-1]; last.Key != recipientKey(b.Recipient()) {
		t.Errorf("the removal is not the last one, but %s", last.Key)
	}
	without, _ = both.learn(kept)
	wantTrust(t, "b was removed, c stays", without, a, c, d)
	if _, err := without.add(a, b.Recipient(), "hb", now); err == nil || !strings.Contains(err.Error(), "age-keygen") {
		t.Errorf("b is added again: %v", err)
	}
	again, problems := without.learn([]state.Versioned{ok(both.add(a, b.Recipient(), "hb", now))})
	wantTrust(t, "an addition after the removal", again, a, c, d)
	if len(problems) != 1 {
		t.Fatalf("refused: %v", problems)
	}
	wantRefused(t, "an addition after the removal", problems[0], Replayed)
}

func TestStatementsOfOthersAreRefused(t *testing.T) {
	a, b, stranger, victim := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	now := time.Now()
	ok := stated(t)
	tr := newTrust("berlin", a.Recipient(), []seal.Recipient{b.Recipient()})
	paris := newTrust("paris", a.Recipient(), nil)
	good := ok(tr.add(b, victim.Recipient(), "hv", now))
	fill := func(identity *seal.Identity, s statement) state.Versioned {
		return state.Versioned{Key: recipientKey(s.Recipient), Value: sign(t, identity, kindRecipient, s)}
	}
	e, err := parse(good.Value, "")
	if err != nil {
		t.Fatal(err)
	}
	e.Signature = stranger.Sign(kindRecipient.purpose(), e.Payload)
	forged, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value state.Versioned
		id    string
	}{
		"a stranger adds itself":    {ok(tr.add(stranger, stranger.Recipient(), "h", now)), Forged},
		"a stranger removes b":      {fill(stranger, statement{1, "berlin", b.Recipient(), "h", isRemoved, now, "", nil}), Forged},
		"b's name, not b's hand":    {state.Versioned{Key: good.Key, Value: forged}, Forged},
		"another place":             {state.Versioned{Key: recipientKey(stranger.Recipient()), Value: good.Value}, Swapped},
		"another fleet":             {ok(paris.add(b, victim.Recipient(), "hv", now)), Swapped},
		"a later version":           {fill(b, statement{2, "berlin", victim.Recipient(), "h", isAdded, now, "", nil}), LaterVersion},
		"neither added nor removed": {fill(b, statement{1, "berlin", victim.Recipient(), "h", "maybe", now, "", nil}), Truncated},
		"no recipient":              {fill(b, statement{1, "berlin", "age1", "h", isAdded, now, "", nil}), Forged},
		"garbage":                   {state.Versioned{Key: good.Key, Value: []byte("x")}, Truncated},
		"truncated":                 {state.Versioned{Key: good.Key, Value: good.Value[:len(good.Value)-9]}, Truncated},
		"of another purpose":        {state.Versioned{Key: good.Key, Value: sign(t, b, kindNote, json.RawMessage(payloadOf(t, good.Value)))}, Forged},
	} {
		got, problems := tr.learn([]state.Versioned{c.value})
		wantTrust(t, name, got, a, b)
		if len(problems) != 1 {
			t.Errorf("%s: refused: %v", name, problems)
			continue
		}
		wantRefused(t, name, problems[0], c.id)
	}
}

func TestTwoThatRemoveEachOtherBothLeave(t *testing.T) {
	a, b, c := newIdentity(t), newIdentity(t), newIdentity(t)
	tr := newTrust("berlin", c.Recipient(), []seal.Recipient{a.Recipient(), b.Recipient()})
	one, err := tr.remove(a, b.Recipient(), "hb", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := tr.remove(b, a.Recipient(), "ha", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]state.Versioned{append(slices.Clone(one), other...), append(slices.Clone(other), one...)} {
		got, _ := tr.learn(order)
		wantTrust(t, "both were seen at once", got, c)
	}
	first, _ := tr.learn(one)
	then, problems := first.learn(append(slices.Clone(one), other...))
	wantTrust(t, "b signs after it was removed", then, a, c)
	if len(problems) != 1 {
		t.Fatalf("refused: %v", problems)
	}
	wantRefused(t, "b signs after it was removed", problems[0], Forged)
}

func TestTheDiskRemembersTheTrust(t *testing.T) {
	a, b, c, d := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	ok := stated(t)
	now := time.Now()
	start := newTrust("berlin", a.Recipient(), []seal.Recipient{b.Recipient(), d.Recipient()})
	full, _ := start.learn([]state.Versioned{ok(start.add(b, c.Recipient(), "hc", now))})
	removal, err := full.remove(b, d.Recipient(), "hd", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	full, _ = full.learn(removal)
	removal, err = full.remove(a, b.Recipient(), "hb", []seal.Recipient{c.Recipient()}, now)
	if err != nil {
		t.Fatal(err)
	}
	full, _ = full.learn(removal)
	wantTrust(t, "before", full, a, c)

	text, err := json.Marshal(full.memory())
	if err != nil {
		t.Fatal(err)
	}
	var m remembered
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	back, problems := start.recall(m)
	wantTrust(t, "after a restart", back, a, c)
	if len(problems) != 0 {
		t.Errorf("refused: %v", problems)
	}
	if again, err := json.Marshal(back.memory()); err != nil || string(again) != string(text) {
		t.Errorf("the memory is another after a restart: %s, %v", again, err)
	}
	m.Removed[0] = json.RawMessage(`{"version":1,"payload":"e30="}`)
	m.Added = append(m.Added, nil)
	if _, problems := start.recall(m); len(problems) != 2 {
		t.Errorf("two are damaged: %v", problems)
	}
}

// A flood of statements of strangers costs little, and one look never returns more than a person reads.
func TestAFloodOfStatementsIsBounded(t *testing.T) {
	a, b, c := newIdentity(t), newIdentity(t), newIdentity(t)
	tr := newTrust("berlin", a.Recipient(), []seal.Recipient{b.Recipient()})
	good := stated(t)(tr.add(b, c.Recipient(), "hc", time.Now()))
	flood := []state.Versioned{good}
	e, err := parse(good.Value, "")
	if err != nil {
		t.Fatal(err)
	}
	e.Signer = a.Recipient() // a signer who is trusted costs the most
	value, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * mostForged {
		flood = append(flood, state.Versioned{Key: good.Key, Value: value}, state.Versioned{Key: "recipient/x", Value: []byte("garbage")})
	}
	got, problems := tr.learn(flood[:1000])
	wantTrust(t, "with some", got, a, b, c)
	if len(problems) != mostProblems {
		t.Errorf("%d problems are returned", len(problems))
	}
	got, problems = tr.learn(flood)
	wantTrust(t, "with very many", got, a, b, c)
	if len(problems) != mostProblems {
		t.Errorf("%d problems are returned", len(problems))
	}
}

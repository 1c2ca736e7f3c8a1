package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// Who removes a host signs its removals again: a host that joins later would not believe the host that left, and a stranger who puts back the
// addition of the one that it had removed would let that one in.
func TestTheRemovalsOfARemovedHostStay(t *testing.T) {
	a, s, y, fresh := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	ok, now := stated(t), time.Now()
	start := newTrust("berlin", a.Recipient(), []seal.Recipient{s.Recipient()})
	letIn := ok(start.add(a, y.Recipient(), "hy", now))
	tr, _ := start.learn([]state.Versioned{letIn})
	byS, err := tr.remove(s, y.Recipient(), "hy", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	tr, _ = tr.learn(byS)
	byA, err := tr.remove(a, s.Recipient(), "hs", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	joined, problems := newTrust("berlin", fresh.Recipient(), []seal.Recipient{a.Recipient()}).learn(byA)
	if len(problems) != 0 {
		t.Errorf("refused: %v", problems)
	}
	joined, _ = joined.learn([]state.Versioned{letIn})
	wantTrust(t, "a host that joined later", joined, fresh, a)
}

func TestDeepOrLongJSONIsNotRead(t *testing.T) {
	for text, want := range map[string]bool{
		`{"a":["[[[[[[[[[[[[[[[[[[[[","\"{{{{{{{{{{{{{{{{{{"]}`: true,
		strings.Repeat("[", maxDepth):                           true,
		strings.Repeat("[", maxDepth+1):                         false,
		strings.Repeat("[],", maxMarks/2+1):                     false,
		strings.Repeat(",", maxMarks+1):                         false,
		`"` + strings.Repeat(",", maxMarks+1) + `"`:             true,
	} {
		if err := shallow([]byte(text)); (err == nil) != want {
			t.Errorf("%.40s (%d bytes): %v", text, len(text), err)
		}
	}
}

// A host of the fleet signs a key of another type than the place is for, and says so inside and outside.
func TestAKeyOfAnotherTypeIsRefused(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	b := newBundle(t, "mx.example.org")
	value, err := v[0].write(place{kindBundle, "mx", bundle.EC384}, described{
		Generation: 1, SPKI: b.SPKI(), Serial: b.Serial(), NotAfter: b.NotAfter(), Chain: string(b.FullchainPEM()),
	}, inside{PEM: string(b.KeyPEM())})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v[1].openBundle(value, "mx", bundle.EC384, 0)
	wantRefused(t, "a bundle", err, Forged)

	pem, spki := newKey(t)
	record, err := json.Marshal(state.Order{Version: 1, KeyType: bundle.EC384, Key: string(pem)})
	if err != nil {
		t.Fatal(err)
	}
	value, err = v[0].write(place{kindOrder, "mx", bundle.EC256}, described{Generation: 1, SPKI: spki}, inside{Record: record})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = v[1].openOrder(value, "mx", bundle.EC256, 0)
	wantRefused(t, "an order", err, Swapped)
}

package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

func TestAnotherPlaceOrAnEarlierTimeIsRefused(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	paris := v[1]
	paris.fleet = "paris" // with the same recipients
	b := newBundle(t, "mx.example.org")
	value, err := v[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v[1].openBundle(value, "other", bundle.EC256, 0)
	wantRefused(t, "another name", err, Swapped)
	_, err = v[1].openBundle(value, "mx", bundle.RSA2048, 0)
	wantRefused(t, "another key type", err, Swapped)
	_, err = paris.openBundle(value, "mx", bundle.EC256, 0)
	wantRefused(t, "another fleet", err, Swapped)
	_, err = v[1].openBundle(value, "mx", bundle.EC256, 8)
	wantRefused(t, "an older generation", err, Replayed)
	if _, err := v[1].openBundle(value, "mx", bundle.EC256, 7); err != nil {
		t.Errorf("the same generation: %v", err)
	}
	for _, generation := range []int64{0, -1, -1 << 63} {
		value, err := v[0].sealBundle("mx", generation, generationOf(b), b)
		if err != nil {
			t.Fatal(err)
		}
		_, err = v[1].openBundle(value, "mx", bundle.EC256, -1<<63)
		wantRefused(t, "a generation below 1", err, Forged)
	}
}

func TestWhoIsNoRecipientCannotOpen(t *testing.T) {
	v := newVaults(t, "berlin", 3)
	b := newBundle(t, "mx.example.org")
	v[0].trust = newTrust("berlin", v[0].identity.Recipient(), []seal.Recipient{v[1].identity.Recipient()})
	value, err := v[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v[1].openBundle(value, "mx", bundle.EC256, 0); err != nil {
		t.Error(err)
	}
	_, err = v[2].openBundle(value, "mx", bundle.EC256, 0)
	wantRefused(t, "a host that h0 does not know", err, NotForThisHost)
	if d, signer, err := v[2].describe(value, place{kindBundle, "mx", bundle.EC256}, 0); err != nil || d.Serial != b.Serial() ||
		signer != v[0].identity.Recipient() {
		t.Errorf("it cannot read the description: %v, %v", d, err)
	}
}

// Somebody has the identity of a host, and puts together what does not belong together.
func TestWhatDoesNotBelongTogetherIsRefused(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	one, other := newBundle(t, "mx.example.org"), newBundle(t, "mx.example.org")
	key, ok := one.Key().(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("the key is a %T", one.Key())
	}
	longer := certify(t, "mx.example.org", key, one.NotAfter().Add(time.Hour)) // of the same key
	p := place{kindBundle, "mx", bundle.EC256}
	good := described{
		Version: 1, Fleet: "berlin", Name: "mx", Key: bundle.EC256, Generation: 7, SPKI: one.SPKI(), Host: "h0", Serial: one.Serial(),
		NotAfter: one.NotAfter(), Names: []string{"MX.example.org"}, Chain: string(one.FullchainPEM()),
	}
	secret := inside{
		Version: 1, Kind: kindBundle, Fleet: "berlin", Name: "mx", Key: bundle.EC256, Generation: 7, SPKI: one.SPKI(), PEM: string(one.KeyPEM()),
	}
	for name, c := range map[string]struct {
		bend func(*described, *inside)
		id   string
	}{
		"nothing is wrong":              {func(*described, *inside) {}, ""},
		"the secret of another kind":    {func(_ *described, s *inside) { s.Kind = kindNext }, Swapped},
		"of another fleet":              {func(_ *described, s *inside) { s.Fleet = "paris" }, Swapped},
		"of another name":               {func(_ *described, s *inside) { s.Name = "mx2" }, Swapped},
		"of another key type":           {func(_ *described, s *inside) { s.Key = bundle.EC384 }, Swapped},
		"of an earlier generation":      {func(_ *described, s *inside) { s.Generation = 6 }, Swapped},
		"with another SPKI":             {func(_ *described, s *inside) { s.SPKI = other.SPKI() }, Swapped},
		"from a later mxcert":           {func(_ *described, s *inside) { s.Version = 2 }, LaterVersion},
		"the key of another":            {func(_ *described, s *inside) { s.PEM = string(other.KeyPEM()) }, Forged},
		"no key":                        {func(_ *described, s *inside) { s.PEM = "" }, Forged},
		"the chain of another":          {func(d *described, _ *inside) { d.Chain = string(other.FullchainPEM()) }, Forged},
		"no chain":                      {func(d *described, _ *inside) { d.Chain = "" }, Forged},
		"a longer chain of the key":     {func(d *described, _ *inside) { d.Chain = string(longer.FullchainPEM()) }, Forged},
		"another serial number":         {func(d *described, _ *inside) { d.Serial = other.Serial() }, Forged},
		"another end":                   {func(d *described, _ *inside) { d.NotAfter = d.NotAfter.Add(time.Second) }, Forged},
		"a name that it does not have":  {func(d *described, _ *inside) { d.Names = append(d.Names, "evil.example.org") }, Forged},
		"another SPKI inside and out":   {func(d *described, s *inside) { d.SPKI, s.SPKI = other.SPKI(), other.SPKI() }, Forged},
		"another generation inside too": {func(d *described, s *inside) { d.Generation, s.Generation = 8, 8 }, ""},
	} {
		d, s := good, secret
		d.Names = append([]string(nil), good.Names...)
		c.bend(&d, &s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if d.Sealed, err = seal.Seal(text, v[0].trust.recipients()); err != nil {
			t.Fatal(err)
		}
		_, err = v[1].openBundle(sign(t, v[0].identity, p.kind, d), "mx", bundle.EC256, 0)
		if c.id == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantRefused(t, name, err, c.id)
		if err != nil && bytes.Contains([]byte(err.Error()), one.KeyPEM()[40:60]) {
			t.Errorf("%s: the error has the key", name)
		}
	}
}

func TestNextKeysOrdersAndAccountsArrive(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	pem, spki := newKey(t)
	now := time.Now()

	next, err := v[0].sealNext("mx", bundle.EC256, 8, pem, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, name, generation, err := v[1].openNext(next, "mx", bundle.EC256, 8); err != nil || !bytes.Equal(got, pem) || name != spki || generation != 8 {
		t.Errorf("the next key: %s, %d, %v", name, generation, err)
	}
	_, _, _, err = v[1].openNext(next, "mx", bundle.EC256, 9)
	wantRefused(t, "an older next key", err, Replayed)
	_, _, _, err = v[1].openNext(next, "mx", bundle.EC384, 0)
	wantRefused(t, "a next key of another type", err, Swapped)
	wrong, err := v[0].sealNext("mx", bundle.RSA2048, 8, pem, now)
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = v[1].openNext(wrong, "mx", bundle.RSA2048, 0)
	wantRefused(t, "a next key that has another type than it says", err, Forged)

	order := state.Order{
		URL: "https://ca.example/order/7", Directory: "d", Account: "a", Names: []string{"mx.example.org"}, KeyType: bundle.EC256, Key: string(pem),
		Finalized: true, Created: now.UTC(),
	}
	value, err := v[0].sealOrder("mx", 8, order)
	if err != nil {
		t.Fatal(err)
	}
	got, generation, host, err := v[1].openOrder(value, "mx", bundle.EC256, 8)
	if err != nil || got.URL != order.URL || got.Key != order.Key || !got.Finalized || generation != 8 || host != "h0" {
		t.Errorf("the order: %+v, %d, %s, %v", got, generation, host, err)
	}
	_, _, _, err = v[1].openOrder(value, "mx", bundle.EC256, 9)
	wantRefused(t, "an order that has become a certificate", err, Replayed)
	_, _, _, err = v[1].openOrder(value, "other", bundle.EC256, 0)
	wantRefused(t, "the order of another certificate", err, Swapped)
	_, _, _, err = v[1].openOrder(next, "mx", bundle.EC256, 0)
	wantRefused(t, "a next key as an order", err, Forged)

	account := state.Account{Directory: "https://ca.example/directory", URL: "https://ca.example/account/1", Key: string(pem), Created: now.UTC()}
	value, err = v[0].sealAccount("ca.example", 3, account)
	if err != nil {
		t.Fatal(err)
	}
	if got, generation, err := v[1].openAccount(value, "ca.example", 3); err != nil || got.Key != account.Key || got.URL != account.URL || generation != 3 {
		t.Errorf("the account: %+v, %d, %v", got, generation, err)
	}
	_, _, err = v[1].openAccount(value, "other.example", 0)
	wantRefused(t, "the account of another CA", err, Swapped)
	_, _, err = v[1].openAccount(value, "ca.example", 4)
	wantRefused(t, "an account before its key was changed", err, Replayed)
	if _, err := v[0].sealOrder("mx", 1, state.Order{KeyType: bundle.EC256, Key: "none"}); err == nil {
		t.Error("an order without a key is sealed")
	}
}

// The record inside has a key of its own: it must be the one that is signed outside.
func TestARecordWithAnotherKeyIsRefused(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	pem, _ := newKey(t)
	_, spki := newKey(t)
	record, err := json.Marshal(state.Order{Version: 1, KeyType: bundle.EC256, Key: string(pem)})
	if err != nil {
		t.Fatal(err)
	}
	p := place{kindOrder, "mx", bundle.EC256}
	value, err := v[0].write(p, described{Generation: 1, SPKI: spki}, inside{Record: record})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = v[1].openOrder(value, "mx", bundle.EC256, 0)
	wantRefused(t, "another key", err, Forged)
	for _, text := range []string{"null", `{"version":2}`, `{"version":1,"url":7}`} {
		value, err := v[0].write(p, described{Generation: 1, SPKI: spki}, inside{Record: json.RawMessage(text)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := v[1].openOrder(value, "mx", bundle.EC256, 0); err == nil {
			t.Errorf("the record %s is read", text)
		}
	}
}

func TestNotesAreOfOnePlaceHostAndTime(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	key, at := "host/h0/deployed/mx", time.Now()
	value, err := v[0].note(key, 5, at, Deployed{Host: "h0", Certain: true, Serving: []string{"aa"}})
	if err != nil {
		t.Fatal(err)
	}
	var got Deployed
	n, signer, err := v[1].readNote(value, key, 5, &got)
	if err != nil || n.Sequence != 5 || n.Host != "h0" || signer != v[0].identity.Recipient() || !got.Certain || len(got.Serving) != 1 {
		t.Errorf("%+v, %v, %+v", n, err, got)
	}
	_, _, err = v[1].readNote(value, key, 6, &got)
	wantRefused(t, "an earlier note", err, Replayed)
	_, _, err = v[1].readNote(value, "host/h1/deployed/mx", 0, &got)
	wantRefused(t, "the note of another host", err, Swapped)
	other := v[1]
	other.fleet = "paris"
	_, _, err = other.readNote(value, key, 0, &got)
	wantRefused(t, "a note of another fleet", err, Swapped)
	_, _, err = v[1].readNote(sign(t, newIdentity(t), kindNote, json.RawMessage(payloadOf(t, value))), key, 0, &got)
	wantRefused(t, "a stranger's note", err, Forged)
	_, _, err = v[1].readNote(sign(t, v[0].identity, kindNote, json.RawMessage(change(t, payloadOf(t, value), "value", 7))), key, 0, &got)
	wantRefused(t, "a note of another type", err, Truncated)
}

func newKey(t testing.TB) (pem []byte, spki string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if pem, err = bundle.MarshalKey(key); err != nil {
		t.Fatal(err)
	}
	if spki, err = spkiOf(pem); err != nil {
		t.Fatal(err)
	}
	return pem, spki
}

package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// traces are the forms in which a part of a private key could be in a file: as it is, in hexadecimal, and in base64 at each of three places.
func traces(secret []byte) [][]byte {
	found := [][]byte{secret, []byte(hex.EncodeToString(secret))}
	for skip := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, skip), secret...))
		found = append(found, []byte(text[4:len(text)-4]))
	}
	return found
}

var base64Text = regexp.MustCompile(`[A-Za-z0-9+/]{40,}={0,2}`)

// layers returns a text, and what is in it as base64, and so on: a bundle is in a payload in an envelope. PEM and JSON break lines.
func layers(text []byte, depth int) [][]byte {
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(`\n`), nil), []byte("\n"), nil)
	all := [][]byte{text}
	if depth == 0 {
		return all
	}
	for _, found := range base64Text.FindAll(text, -1) {
		inner, err := base64.StdEncoding.DecodeString(string(found))
		if err != nil {
			inner, _ = base64.RawStdEncoding.DecodeString(string(bytes.TrimRight(found, "=")))
		}
		all = append(all, layers(inner, depth-1)...)
	}
	return all
}

// readable reports which secrets can be found in a text.
func readable(text []byte, secrets map[string][]byte) (found []string) {
	for _, layer := range layers(text, 3) {
		for name, secret := range secrets {
			for _, trace := range traces(secret) {
				if bytes.Contains(layer, trace) {
					found = append(found, name)
				}
			}
		}
	}
	return found
}

// scalar returns the secret number of an EC key.
func scalar(t testing.TB, pem string) []byte {
	t.Helper()
	key, err := bundle.ParseKey([]byte(pem))
	must(t, err)
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("the key is a %T", key)
	}
	number, err := private.Bytes()
	must(t, err)
	return number
}

// Who can read the store, its log and its snapshots on the disks of etcd, finds no private key: neither of a certificate, nor the next one, nor
// that of an order in flight, nor of the account.
func TestNobodyReadsAKeyInTheStore(t *testing.T) {
	var folder string
	w := &world{t: t, cluster: etcdtest.Start(t, 1, func(c *embed.Config) { folder = c.Dir })}
	for range 2 {
		identity := newIdentity(t)
		w.identities, w.all = append(w.identities, identity), append(w.all, identity.Recipient())
	}
	a, b := w.host(0, "").run(), w.host(1, "").run()
	s := w.stranger()
	const name = "mx.example"
	orders, next := orderFor(t, name), orderFor(t, name)
	account := state.Account{Directory: "https://ca.example/directory", URL: "https://ca.example/account/1", Key: orderFor(t, name).Key, Created: time.Now().UTC()}
	must(t, state.New(a.Store()).SaveAccount(account))
	lead := a.leads1(name)
	must(t, state.New(a.Store()).Lineage(name).SaveOrder(orders))
	g, issued := a.issue(name, time.Now().Add(90*24*time.Hour))
	s.copy() // with the order in flight
	must(t, a.Offer(t.Context(), lead, name, g, issued))
	lead.Release()
	value, err := a.vault().sealNext(name, bundle.EC256, 2, []byte(next.Key), time.Now())
	must(t, err)
	must(t, a.shared.Replace(nextPlace(name, bundle.EC256), value))
	must(t, a.AddRecipient(t.Context(), newIdentity(t).Recipient(), "mx9")) // all is encrypted anew
	eventually(t, "the other host has it", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == issued.Serial() })
	s.copy()

	secrets := map[string][]byte{
		"the certificate's key": scalar(t, string(issued.KeyPEM())), "the order's key": scalar(t, orders.Key),
		"the next key": scalar(t, next.Key), "the account's key": scalar(t, account.Key),
	}
	for _, kind := range []string{"order/" + name + "/ec256", "account/" + folderOf(t, a), bundlePlace(name, bundle.EC256), nextPlace(name, bundle.EC256)} {
		if len(s.archive[kind]) == 0 {
			t.Errorf("the store has never had %s", kind)
		}
	}
	for key, values := range s.archive {
		for _, value := range values {
			if found := readable(value, secrets); len(found) > 0 {
				t.Errorf("%s shows %v", key, found)
			}
		}
	}
	w.cluster.Members[0].Stop()
	var files int
	must(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		text = bytes.Trim(text, "\x00") // the log is 64 MB at once
		if found := readable(text, secrets); len(found) > 0 {
			t.Errorf("%s shows %v", path, found)
		}
		if bytes.Contains(text, []byte(`"signature":"`)) {
			files++
		}
		return err
	}))
	if files == 0 {
		t.Error("no file of etcd has a value of mxcert: this test looks in the wrong place")
	}
	// The same search finds a key in an envelope that is not encrypted.
	open, err := wrap(w.identities[0], kindBundle, described{Version: 1, Sealed: issued.KeyPEM()})
	must(t, err)
	if found := readable(open, secrets); len(found) == 0 {
		t.Error("the search finds nothing in a value that is not encrypted")
	}
}

// folderOf returns the folder of the only account.
func folderOf(t testing.TB, h *host) string {
	t.Helper()
	names, err := h.disk.List("accounts")
	must(t, err)
	if len(names) != 1 {
		t.Fatalf("the accounts are %v", names)
	}
	return names[0][:len(names[0])-1]
}

// Nothing that a host remembers, reports or logs about its fleet has a key or the identity in it.
func TestNoSecretIsReported(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, ""), w.host(1, "")
	s := w.stranger()
	const name = "mx.example"
	issued := a.issues(name, time.Now().Add(90*24*time.Hour))
	good := s.get(bundlePlace(name, bundle.EC256))
	secrets := map[string][]byte{"the certificate's key": scalar(t, string(issued.KeyPEM()))}
	// A host of the fleet, which can open it, signs what does not belong together: the secret is open when it is refused.
	d, inner, err := a.vault().open(good, place2(name), 0)
	must(t, err)
	for _, bend := range []func(d *described, in *inside){
		func(d *described, _ *inside) { d.Serial = "00" },
		func(d *described, _ *inside) { d.Chain = string(issued.KeyPEM()) },
		func(_ *described, in *inside) { in.PEM = in.PEM[:100] },
		func(d *described, in *inside) { d.Chain, in.PEM = in.PEM, d.Chain },
	} {
		outer, inside := *d, *inner
		bend(&outer, &inside)
		value, err := a.vault().write(place2(name), outer, inside)
		must(t, err)
		s.put(bundlePlace(name, bundle.EC256), value)
		_, err = b.take(name)
		wantRefused(t, "what does not belong together", err, Forged)
		for _, fault := range append(b.Health().Faults, err.Error()) {
			if found := readable([]byte(fault), secrets); len(found) > 0 || bytes.Contains([]byte(fault), issued.KeyPEM()[30:60]) {
				t.Errorf("it shows the key: %s", fault)
			}
		}
	}
	for _, file := range []string{"fleet.json", "fleet/trust.json"} {
		text, err := b.disk.Read(file)
		if err == nil && (len(readable(text, secrets)) > 0 || bytes.Contains(text, []byte("SECRET"))) {
			t.Errorf("%s has a secret", file)
		}
	}
}

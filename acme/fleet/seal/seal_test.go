package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestASecretOpensForItsRecipientsOnly(t *testing.T) {
	one, other, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	for _, secret := range [][]byte{nil, []byte("-----BEGIN PRIVATE KEY-----"), make([]byte, MaxSecret)} {
		sealed, err := Seal(secret, []Recipient{one.Recipient(), other.Recipient(), one.Recipient()})
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(sealed, []byte("-> X25519 ")); n != 2 {
			t.Errorf("there are %d recipients, want each of two once", n)
		}
		for _, identity := range []*Identity{one, other} {
			if got, err := identity.Open(sealed); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("opened %d bytes of %d, %v", len(got), len(secret), err)
			}
		}
		if got, err := stranger.Open(sealed); !errors.Is(err, ErrNotForUs) || got != nil {
			t.Errorf("a stranger got %d bytes, %v", len(got), err)
		}
		if len(secret) > 0 && len(secret) < MaxSecret && bytes.Contains(sealed, secret[:8]) {
			t.Error("the secret can be read")
		}
	}
}

func TestWhatIsNotSealedIsRefused(t *testing.T) {
	identity := newIdentity(t)
	to := []Recipient{identity.Recipient()}
	if _, err := Seal(make([]byte, MaxSecret+1), to); err == nil {
		t.Error("a secret that is too long is sealed")
	}
	if _, err := Seal([]byte("s"), nil); err == nil {
		t.Error("a secret is sealed to nobody")
	}
	if _, err := Seal([]byte("s"), []Recipient{"age1"}); err == nil {
		t.Error("a secret is sealed to what is no recipient")
	}
}

// age itself can open what Seal makes, so that the recovery key needs no mxcert; and what it cannot know is refused.
func TestAgeOpensWhatIsSealed(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal([]byte("secret"), []Recipient{Recipient(key.Recipient().String())})
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "secret" {
		t.Errorf("age read %q, %v", got, err)
	}
}

func TestEachTruncationAndEachFlippedByteIsNoticed(t *testing.T) {
	identity := newIdentity(t)
	secret := []byte("CANARY-0123456789")
	sealed, err := Seal(secret, []Recipient{identity.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, i int, damaged []byte) {
		got, err := identity.Open(damaged)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotForUs) || got != nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s %d: got %d bytes, %v", what, i, len(got), err)
		}
	}
	for i := range sealed {
		refused("truncated to", i, sealed[:i])
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		refused("flipped", i, damaged)
	}
	refused("longer", len(sealed), append(bytes.Clone(sealed), 0))
	refused("huge", maxSealed, make([]byte, maxSealed+1))

	long, err := age.ParseX25519Recipient(string(identity.Recipient()))
	if err != nil {
		t.Fatal(err)
	}
	var big bytes.Buffer // of age, but longer than mxcert seals
	w, err := age.Encrypt(&big, long)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, MaxSecret+1)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	refused("too long a secret", MaxSecret+1, big.Bytes())
}

// The largest fleet: 1,000 hosts and some recovery keys, and the longest secret.
func TestTheLargestFleet(t *testing.T) {
	identity := newIdentity(t)
	to := []Recipient{identity.Recipient()}
	for len(to) < MaxRecipients {
		to = append(to, newIdentity(t).Recipient())
	}
	secret := make([]byte, MaxSecret)
	_, _ = rand.Read(secret)
	sealed, err := Seal(secret, to)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) > maxSealed {
		t.Errorf("it has %d bytes, more than are opened", len(sealed))
	}
	if got, err := identity.Open(sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("opened %d bytes, %v", len(got), err)
	}
	if _, err := Seal(secret, append(to, newIdentity(t).Recipient())); err == nil {
		t.Error("one recipient too many is accepted")
	}
}

func BenchmarkSealFor1000(b *testing.B) {
	identity := newIdentity(b)
	to := []Recipient{identity.Recipient()}
	for len(to) < 1000 {
		to = append(to, newIdentity(b).Recipient())
	}
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			if _, err := Seal(make([]byte, 4096), to); err != nil {
				b.Fatal(err)
			}
		}
	})
	sealed, err := Seal(make([]byte, 4096), to)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		b.ReportMetric(float64(len(sealed)), "bytes")
		for b.Loop() {
			if _, err := identity.Open(sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}

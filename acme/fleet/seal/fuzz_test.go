package seal

import (
	"strings"
	"testing"
)

func FuzzParseIdentity(f *testing.F) {
	f.Add("# created\nAGE-SECRET-KEY-1QQQQ\n")
	f.Add("AGE-PLUGIN-X-1\n")
	f.Add("-----BEGIN OPENSSH PRIVATE KEY-----")
	f.Fuzz(func(t *testing.T, text string) {
		identity, err := ParseIdentity(text)
		if err == nil {
			if _, err := ParseRecipient(string(identity.Recipient())); err != nil {
				t.Errorf("the recipient of an identity is refused: %v", err)
			}
			return
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); len(line) > 40 && strings.Contains(err.Error(), line) {
				t.Errorf("the error has a line of the file: %v", err)
			}
		}
	})
}

func FuzzParseRecipient(f *testing.F) {
	f.Add("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	f.Add(encode(make([]byte, 32)))
	f.Add("age1pq1q")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecipient(text)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		if string(r) != text || len(text) != 62 {
			t.Errorf("%q was read as %q", text, r)
		}
		if sealed, err := Seal([]byte("s"), []Recipient{r}); err != nil || len(sealed) == 0 {
			t.Errorf("nothing can be sealed to it: %v", err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	identity := newIdentity(f)
	sealed, err := Seal([]byte("secret"), []Recipient{identity.Recipient()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if secret, err := identity.Open(text); err == nil && string(text) != string(sealed) {
			t.Errorf("a secret of %d bytes, which a mutation cannot make", len(secret))
		}
	})
}

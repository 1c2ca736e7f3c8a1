package seal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"filippo.io/age"
	"filippo.io/edwards25519"
)

// Identity is the secret of one host: AGE-SECRET-KEY-1… of age-keygen. It prints, and is encoded, as its public half.
type Identity struct {
	recipient Recipient
	// A function, because package fmt prints what is in structs, also where it cannot call their methods.
	secrets func() secrets
}

type secrets struct {
	age    *age.X25519Identity
	scalar *edwards25519.Scalar
}

// maxIdentity is how many bytes the file of an identity may have. age-keygen writes 189.
const maxIdentity = 16 << 10

// ParseIdentity reads an identity; comments and empty lines, as age-keygen writes them, are skipped. Only X25519 identities can be used, and
// one only. The error says what else was found, and what to do; it never has a part of the text.
func ParseIdentity(text string) (*Identity, error) {
	if len(text) > maxIdentity {
		return nil, refuse("the file has %d bytes, more than the %d that are accepted", len(text), maxIdentity)
	}
	found, at := "", 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if why := unusable(line); why != "" {
			return nil, refuse("line %d: %s", i+1, why)
		}
		if found != "" {
			return nil, refuse("lines %d and %d: there are two identities; each host has one of its own", at, i+1)
		}
		found, at = line, i+1
	}
	if found == "" {
		return nil, refuse("there is no identity in it")
	}
	prefix, groups, bad := split(strings.ToLower(found))
	if bad >= 0 || prefix != "age-secret-key-" {
		return nil, refuse("line %d: the identity has a typo", at)
	}
	raw, err := decode(prefix, groups)
	if err != nil {
		return nil, refuse("line %d: the identity has a typo: %v", at, err)
	}
	key, err := age.ParseX25519Identity(found)
	if err != nil {
		return nil, refuse("line %d: the identity has a typo", at)
	}
	scalar, err := edwards25519.NewScalar().SetBytesWithClamping(raw)
	if err != nil {
		return nil, refuse("line %d: the identity has a typo", at)
	}
	hold := secrets{age: key, scalar: scalar}
	return &Identity{recipient: Recipient(key.Recipient().String()), secrets: func() secrets { return hold }}, nil
}

// unusable says what else than an X25519 identity a line is; "" if it may be one.
func unusable(line string) string {
	upper := strings.ToUpper(line)
	switch {
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-PQ-"):
		return "it is a post-quantum identity, which cannot sign"
	case strings.HasPrefix(upper, "AGE-PLUGIN-"):
		return "it is the identity of an age plugin (a hardware key), which cannot sign"
	case strings.HasPrefix(upper, "-----BEGIN AGE ENCRYPTED FILE"), strings.HasPrefix(line, "age-encryption.org/"):
		return "the file is encrypted with a passphrase, which nobody types when a daemon starts"
	case strings.HasPrefix(upper, "-----BEGIN ") && strings.Contains(upper, "PRIVATE KEY"):
		return "it is an SSH or TLS private key, not one of age"
	case strings.HasPrefix(upper, "SSH-"):
		return "it is a public SSH key, not an identity of age"
	case strings.HasPrefix(line, "age1"):
		return "it is a recipient, the public half; the identity begins with AGE-SECRET-KEY-1"
	case strings.HasPrefix(line, "age-secret-key-1"):
		return "the identity is in lower case; age-keygen writes upper case"
	case !strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		return "it is no identity of age: that begins with AGE-SECRET-KEY-1"
	}
	return ""
}

func refuse(format string, args ...any) error {
	return errors.New("the identity of this host cannot be used: " + fmt.Sprintf(format, args...) + "; make one with age-keygen -o FILE")
}

// Recipient returns the public half.
func (i *Identity) Recipient() Recipient { return i.recipient }

// String returns the public half.
func (i Identity) String() string { return "identity of " + string(i.recipient) }

// Format prints the public half, whatever the verb.
func (i Identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, i.String()) }

// MarshalText returns the public half.
func (i Identity) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// LogValue returns the public half.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.String()) }

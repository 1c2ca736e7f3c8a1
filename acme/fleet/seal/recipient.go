package seal

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// Recipient is the public half of an identity: age1… and 58 characters. Only those of [ParseRecipient] are worth anything.
type Recipient string

// ParseRecipient checks a recipient, which must be one of age-keygen, in lower case and without spaces. It refuses points that no identity
// has, to which everybody could decrypt or for which everybody could sign: those of small order, not on the curve, not reduced.
func ParseRecipient(text string) (Recipient, error) {
	if _, err := point(text); err != nil {
		return "", err
	}
	return Recipient(text), nil
}

// point returns the point on Edwards25519 of a recipient: that with sign bit 0 (XEdDSA, convert_mont).
func point(text string) (*edwards25519.Point, error) {
	if why := foreign(text); why != "" {
		return nil, fmt.Errorf("%s cannot be used as a recipient of a fleet: %s; use the age1… of age-keygen", named(text), why)
	}
	prefix, groups, bad := split(text)
	if bad >= 0 {
		return nil, fmt.Errorf("the recipient %s has a typo: character %d cannot be in a recipient; copy it again", named(text), bad+1)
	}
	u, err := decode(prefix, groups)
	if errors.Is(err, errChecksum) {
		if place := wrong(prefix, groups); place >= 0 {
			return nil, fmt.Errorf("the recipient %s has a typo, probably in character %d (%q); copy it again", named(text),
				len(prefix)+2+place, text[len(prefix)+1+place])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the recipient %s has a typo: %w; copy it again", named(text), err)
	}
	p, err := edwards(u)
	if err != nil {
		return nil, fmt.Errorf("the recipient %s was not made by age-keygen: %w; whoever wrote it wants to read or to forge", named(text), err)
	}
	return p, nil
}

// foreign says what else than a recipient of age-keygen a text is; "" if it may be one.
func foreign(text string) string {
	lower := strings.ToLower(text)
	switch {
	case text == "":
		return "it is empty"
	case strings.HasPrefix(lower, "age-secret-key-"), strings.HasPrefix(lower, "age-plugin-"):
		return "it is an identity, which is secret (make a new one if others have seen it)"
	case strings.HasPrefix(lower, "ssh-"), strings.HasPrefix(lower, "ecdsa-"), strings.HasPrefix(lower, "sk-"):
		return "it is an SSH key"
	case strings.HasPrefix(lower, "age1pq1"):
		return "it is a post-quantum recipient, which cannot verify signatures"
	case strings.HasPrefix(lower, "age1") && strings.Contains(lower[4:], "1"):
		return "it is a recipient of an age plugin"
	case strings.HasPrefix(text, "AGE1"):
		return "it is in upper case"
	case strings.TrimSpace(text) != text:
		return "there are spaces around it"
	case !strings.HasPrefix(text, "age1"):
		return "it does not begin with age1"
	}
	return ""
}

// named quotes a recipient for an error. A longer text that does not look like one is not shown: it may be an identity.
func named(text string) string {
	switch {
	case len(text) > 20 && !strings.HasPrefix(strings.ToLower(text), "age1"):
		return fmt.Sprintf("a text of %d characters", len(text))
	case len(text) > 80:
		return fmt.Sprintf("%.20q… (%d characters)", text, len(text))
	}
	return fmt.Sprintf("%q", text)
}

// edwards converts a Montgomery u to the Edwards point with sign bit 0, if it is a reduced one of prime order.
func edwards(u []byte) (*edwards25519.Point, error) {
	x, err := new(field.Element).SetBytes(u)
	if err != nil {
		return nil, err
	}
	if string(x.Bytes()) != string(u) {
		return nil, errors.New("its number is not reduced")
	}
	one := new(field.Element).One()
	above := new(field.Element).Add(x, one) // 0 for u = -1, of which Invert makes y = 0: a point of order 4
	y := new(field.Element).Multiply(new(field.Element).Subtract(x, one), above.Invert(above))
	p, err := new(edwards25519.Point).SetBytes(y.Bytes())
	if err != nil {
		return nil, errors.New("it is not on the curve")
	}
	if !primeOrder(p) || string(p.BytesMontgomery()) != string(u) {
		return nil, errors.New("it is of small order")
	}
	return p, nil
}

// primeOrder reports whether p is in the subgroup of prime order l and is not the identity.
func primeOrder(p *edwards25519.Point) bool {
	identity := edwards25519.NewIdentityPoint()
	if p.Equal(identity) == 1 {
		return false
	}
	// l·p = (l-1)·p + p, since scalars are reduced modulo l.
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		return false
	}
	multiple := edwards25519.NewIdentityPoint().VarTimeDoubleScalarBaseMult(one.Negate(one), p, edwards25519.NewScalar())
	return multiple.Add(multiple, p).Equal(identity) == 1
}

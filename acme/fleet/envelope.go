package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// version is in each value of the store, outside and inside of the signature. A host refuses a higher one.
const version = 1

// Limits of what is read from the store, which strangers may write to.
const (
	maxValue = 1 << 20 // bytes, as of every store
	maxDepth = 12      // of JSON
	maxMarks = 50_000  // of JSON: characters that precede values
)

// envelope is how every value that hosts must believe is stored: the JSON of a payload, and who signed it. The signature is for a purpose,
// so that a value of one kind does not count as one of another.
type envelope struct {
	Version   int            `json:"version"`
	Payload   []byte         `json:"payload"`
	Signer    seal.Recipient `json:"signer"`
	Signature []byte         `json:"signature"`
}

// kind is what a value is.
type kind string

const (
	kindBundle    kind = "bundle"
	kindNext      kind = "next key"
	kindOrder     kind = "order"
	kindAccount   kind = "account"
	kindNote      kind = "note"
	kindRecipient kind = "recipient"
)

func (k kind) purpose() string { return "mxcert " + string(k) + " v1" }

// wrap signs the JSON of a payload.
func wrap(identity *seal.Identity, k kind, payload any) ([]byte, error) {
	if identity == nil {
		return nil, fmt.Errorf("sign a %s for the fleet: %w", k, state.Unasked(errNoIdentity()))
	}
	text, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("encode a %s for the fleet: %w", k, err)
	}
	value, err := json.Marshal(envelope{version, text, identity.Recipient(), identity.Sign(k.purpose(), text)})
	if err != nil {
		return nil, fmt.Errorf("encode a %s for the fleet: %w", k, err)
	}
	if len(value) > maxValue {
		return nil, fmt.Errorf("a %s for the fleet has %d bytes, more than the %d that a value may have", k, len(value), maxValue)
	}
	return value, nil
}

// parse reads an envelope from the place key. It does not look at the signature.
func parse(value []byte, key string) (*envelope, error) {
	var e envelope
	if err := decode(value, key, &e); err != nil {
		return nil, err
	}
	if e.Signer == "" || len(e.Signature) == 0 || len(e.Payload) == 0 {
		return nil, refused(Truncated, key, "it has no payload, signer or signature")
	}
	return &e, nil
}

// unwrap reads the payload that a signer whom trusts accepts has signed for a kind.
func unwrap(value []byte, key string, k kind, trusts func(seal.Recipient) bool, into any) (seal.Recipient, error) {
	e, err := parse(value, key)
	if err != nil {
		return "", err
	}
	if !trusts(e.Signer) {
		return "", refused(Forged, key, "it is signed by %.70q, which this host does not trust", string(e.Signer))
	}
	return e.Signer, e.payload(key, k, into)
}

// payload verifies the signature and reads the payload.
func (e *envelope) payload(key string, k kind, into any) error {
	if !e.Signer.Verify(k.purpose(), e.Payload, e.Signature) {
		return refused(Forged, key, "the signature is not that of %.70q for this %s", string(e.Signer), k)
	}
	return decode(e.Payload, key, into)
}

// decode reads JSON of this version.
func decode(text []byte, key string, into any) error {
	if len(text) > maxValue {
		return refused(Truncated, key, "it has %d bytes, more than the %d that a value may have", len(text), maxValue)
	}
	if err := shallow(text); err != nil {
		return refused(Truncated, key, "it cannot be read: %v", err)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &head); err != nil || head.Version < 1 {
		return refused(Truncated, key, "it is no JSON object with a version")
	}
	if head.Version > version {
		return refused(LaterVersion, key, "a later mxcert wrote it: it has version %d, and this mxcert knows up to %d", head.Version, version)
	}
	// Not the text of the error: it may quote foreign bytes.
	if err := json.Unmarshal(text, into); err != nil {
		return refused(Truncated, key, "a field of it has another type than mxcert writes")
	}
	return nil
}

// shallow refuses JSON that is deeply nested or has very many values, which would take much memory or time to read.
func shallow(text []byte) error {
	depth, marks, quoted := 0, 0, false
	for r := bytes.NewReader(text); ; {
		c, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		switch {
		case quoted && c == '\\':
			_, _ = r.ReadByte()
			continue
		case c == '"':
			quoted = !quoted
			continue
		case quoted:
			continue
		case c == '{' || c == '[':
			depth++
			marks++
		case c == '}' || c == ']':
			depth--
		case c == ',':
			marks++
		}
		if depth > maxDepth || marks > maxMarks {
			return errors.New("it is nested too deeply, or has too many fields")
		}
	}
}

// Package seal keeps secrets of a fleet in a store that others can read and write.
//
// A secret is encrypted with age (https://age-encryption.org/v1) to the X25519 recipients of all hosts and of an offline recovery key, and the
// host that wrote it signs it. Who can write to the store can neither read nor replace it, nor put it in another place: what it is for is
// inside. The signature is XEdDSA (https://signal.org/docs/specifications/xeddsa/): an Ed25519 signature (RFC 8032) that is verified with the
// X25519 recipient itself, so that the list of recipients is all that a host has to trust.
//
// Not supported: post-quantum and plugin recipients, SSH keys, passphrases. A recipient without a secret of its own here cannot sign.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
)

// Limits of what is sealed and opened. age itself reads at most 1024 recipients.
const (
	MaxSecret     = 64 << 10 // bytes of a secret: a private key has at most 4 KiB, an order with its key 32 KiB
	MaxRecipients = 1020
	maxSealed     = MaxSecret + 512<<10 // each recipient takes about 100 bytes
)

// Errors that a caller may test for with errors.Is.
var (
	// ErrNotForUs says that a secret is encrypted to other identities.
	ErrNotForUs = errors.New("it is encrypted, but not to this identity")
	// ErrDamaged says that a sealed secret is not what [Seal] makes, or is not all of it.
	ErrDamaged = errors.New("it is damaged or truncated")
)

// Seal encrypts a secret of at most [MaxSecret] bytes to 1 to [MaxRecipients] recipients, each once.
func Seal(secret []byte, recipients []Recipient) ([]byte, error) {
	recipients = slices.Compact(slices.Sorted(slices.Values(recipients)))
	switch {
	case len(secret) > MaxSecret:
		return nil, fmt.Errorf("seal a secret of %d bytes: at most %d are accepted", len(secret), MaxSecret)
	case len(recipients) == 0:
		return nil, errors.New("seal a secret: there is no recipient; nobody could open it")
	case len(recipients) > MaxRecipients:
		return nil, fmt.Errorf("seal a secret to %d recipients: at most %d are accepted", len(recipients), MaxRecipients)
	}
	keys := make([]age.Recipient, len(recipients))
	for i, recipient := range recipients {
		if _, err := ParseRecipient(string(recipient)); err != nil {
			return nil, fmt.Errorf("seal a secret: %w", err)
		}
		key, err := age.ParseX25519Recipient(string(recipient))
		if err != nil {
			return nil, fmt.Errorf("seal a secret to %s: %w", recipient, err)
		}
		keys[i] = key
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, keys...)
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	return sealed.Bytes(), nil
}

// Open decrypts what [Seal] made. The error is [ErrNotForUs] or [ErrDamaged] (wrapped); it never has a part of the secret.
//
// It says nothing about who has sealed it: everybody can encrypt to a recipient. Verify the signature of what holds it first.
func (i *Identity) Open(sealed []byte) ([]byte, error) {
	if len(sealed) > maxSealed {
		return nil, fmt.Errorf("open a secret of %d bytes, more than the %d that are accepted: %w", len(sealed), maxSealed, ErrDamaged)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), i.secrets().age)
	var stranger *age.NoIdentityMatchError
	switch {
	case errors.As(err, &stranger):
		return nil, fmt.Errorf("open a secret with the identity of %s: %w", i.recipient, ErrNotForUs)
	case err != nil:
		return nil, fmt.Errorf("open a secret: %w", ErrDamaged)
	}
	secret, err := io.ReadAll(io.LimitReader(r, MaxSecret+1))
	if err != nil || len(secret) > MaxSecret {
		return nil, fmt.Errorf("open a secret: %w", ErrDamaged)
	}
	return secret, nil
}

package sct

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/finding"
)

// ErrUnknownLog is returned (wrapped) for an SCT of a log that the list does not have.
var ErrUnknownLog = errors.New("the log list does not have this log")

// clockSlack is how far a timestamp may be ahead of the clock here.
const clockSlack = 5 * time.Minute

// Numbers of the signature algorithms that logs use (RFC 6962 section 2.1.4, RFC 5246 section 7.4.1.4.1).
const (
	hashSHA256     = 4
	algorithmRSA   = 1
	algorithmECDSA = 3
)

// Verify checks an SCT of a certificate with the keys of a log list. issuer is the certificate of its CA, whose key the signature covers. It
// returns nil if the signature is good and the promise counts at the time now; ErrUnknownLog (wrapped) if the list cannot tell.
func (s SCT) Verify(leaf, issuer *x509.Certificate, logs Logs, now time.Time) error {
	log, known := logs[s.Log]
	if !known {
		return fmt.Errorf("log %s: %w", s.LogID(), ErrUnknownLog)
	}
	name := finding.Quoted(log.Name, finding.MostQuoted)
	tbs, err := TBS(leaf)
	if err != nil {
		return err
	}
	if !s.signed(log.key, digest(s, tbs, issuer)) {
		return fmt.Errorf("the signature is not that of %s over this certificate and this issuer", name)
	}
	switch {
	case s.At.After(now.Add(clockSlack)):
		return fmt.Errorf("the timestamp of %s is in the future: %s", name, s.At.Format(time.RFC3339))
	case !log.Start.IsZero() && leaf.NotAfter.Before(log.Start), !log.End.IsZero() && !leaf.NotAfter.Before(log.End):
		return fmt.Errorf("%s does not take certificates that expire at %s", name, leaf.NotAfter.UTC().Format(time.RFC3339))
	case log.State == "rejected" || log.State == "pending":
		return fmt.Errorf("%s is %s", name, log.State)
	case log.State == "retired" && s.At.After(log.Since):
		return fmt.Errorf("%s was retired before, at %s", name, log.Since.UTC().Format(time.RFC3339))
	}
	return nil
}

// digest hashes what a log signs for a pre-certificate (RFC 6962 section 3.2).
func digest(s SCT, tbs []byte, issuer *x509.Certificate) [32]byte {
	key := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	b := []byte{0, 0}                                              // version 1, certificate_timestamp
	b = binary.BigEndian.AppendUint64(b, uint64(s.At.UnixMilli())) //nolint:gosec // it was read from such a number
	b = append(b, 0, 1)                                            // precert_entry
	b = append(b, key[:]...)
	b = append(b, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	b = append(b, tbs...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.extensions))) //nolint:gosec // it was read with such a length
	return sha256.Sum256(append(b, s.extensions...))
}

func (s SCT) signed(key crypto.PublicKey, sum [32]byte) bool {
	if s.hash != hashSHA256 {
		return false
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return s.algorithm == algorithmECDSA && ecdsa.VerifyASN1(key, sum[:], s.signature)
	case *rsa.PublicKey:
		return s.algorithm == algorithmRSA && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], s.signature) == nil
	}
	return false
}

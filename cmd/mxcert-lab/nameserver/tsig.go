package nameserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/miekg/dns"
)

// key is a TSIG key, bound to one algorithm as in BIND.
type key struct {
	secret    []byte
	algorithm func() hash.Hash
	name      string   // of the algorithm
	zones     []string // apexes that it may update; empty: all
}

// AddKey lets the holder of a TSIG key update zones, all zones when none is named. algorithm is hmac-sha256,
// hmac-sha384 or hmac-sha512, secret is base64.
func (w *World) AddKey(name, algorithm, secret string, zones ...string) error {
	k := key{name: dns.CanonicalName(algorithm)}
	switch k.name {
	case dns.HmacSHA256:
		k.algorithm = sha256.New
	case dns.HmacSHA384:
		k.algorithm = sha512.New384
	case dns.HmacSHA512:
		k.algorithm = sha512.New
	default:
		return fmt.Errorf("TSIG key %s: algorithm %s is not supported", name, algorithm)
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return fmt.Errorf("TSIG key %s: the secret is not base64", name)
	}
	k.secret = raw
	for _, apex := range zones {
		k.zones = append(k.zones, dns.CanonicalName(apex))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[dns.CanonicalName(name)] = k
	return nil
}

// signer is the world as the dns package asks it for signatures.
type signer struct{ world *World }

// Generate signs a message.
func (s signer) Generate(message []byte, t *dns.TSIG) ([]byte, error) {
	s.world.mu.RLock()
	defer s.world.mu.RUnlock()
	k, known := s.world.keys[dns.CanonicalName(t.Hdr.Name)]
	if !known || dns.CanonicalName(t.Algorithm) != k.name {
		return nil, dns.ErrSecret
	}
	mac := hmac.New(k.algorithm, k.secret)
	mac.Write(message)
	return mac.Sum(nil), nil
}

// Verify checks a signature. Truncated ones (RFC 8945 section 5.2.2.1) are not accepted.
func (s signer) Verify(message []byte, t *dns.TSIG) error {
	want, err := s.Generate(message, t)
	if err != nil {
		return err
	}
	got, err := hex.DecodeString(t.MAC)
	if err != nil || !hmac.Equal(want, got) {
		return dns.ErrSig
	}
	return nil
}

// sign adds the TSIG record to the reply that answers the request's (RFC 8945 section 5.3). status is what the check of
// the request said.
func sign(reply *dns.Msg, request *dns.TSIG, status error) {
	t := &dns.TSIG{
		Hdr:        dns.RR_Header{Name: request.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm:  request.Algorithm,
		TimeSigned: uint64(time.Now().Unix()),
		Fudge:      300,
		OrigId:     reply.Id,
	}
	if status != nil {
		reply.Rcode = dns.RcodeNotAuth
	}
	switch {
	case status == nil:
	case errors.Is(status, dns.ErrTime):
		t.Error = dns.RcodeBadTime
		t.OtherLen, t.OtherData = 6, fmt.Sprintf("%012x", t.TimeSigned)
		t.TimeSigned = request.TimeSigned // RFC 8945 section 5.2.3
	case errors.Is(status, dns.ErrSig):
		t.Error = dns.RcodeBadSig
	default:
		t.Error = dns.RcodeBadKey
	}
	reply.Extra = append(reply.Extra, t)
}

package ct

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Ours says which certificates are ours: those for our keys, and those whose serials we know. A certificate for one of our keys is of no use
// to anybody else, also while its order is in flight; so the key counts, unless it is known to be compromised.
type Ours struct {
	keys    map[string]string // SPKI digests, and where the certificate is
	serials map[string]string // to what the issuer's name contains; "" if that is not known
}

// NewOurs returns a set to which nothing belongs yet.
func NewOurs() *Ours { return &Ours{keys: map[string]string{}, serials: map[string]string{}} }

// Add adds a certificate. where says in words what has it. An empty spki or serial says nothing.
func (o *Ours) Add(spki, serial, issuer, where string) {
	if spki != "" {
		o.keys[spki] = where
	}
	if serial != "" {
		o.serials[serial] = issuer
	}
}

// Where returns in words what has the key of an entry; "" if nothing has.
func (o *Ours) Where(e Entry) string { return o.keys[e.SPKI] }

// Answer says whether a certificate is ours.
type Answer int

// The answers.
const (
	No     Answer = iota
	Yes           // we ordered it, or it is for one of our keys
	Unsure        // the certificate itself has to be looked at
)

// Is answers for an entry. Serials alone are an answer only if the key is not known: a CA that deceives can repeat a serial.
func (o *Ours) Is(e Entry) Answer {
	issuer, known := o.serials[e.Serial]
	switch {
	case o.keys[e.SPKI] != "":
		return Yes
	case e.SPKI != "":
		return No
	case known && e.Serial != "" && issuer != "" && strings.Contains(e.Issuer, issuer):
		return Yes
	}
	return Unsure
}

// FromState adds what the state knows of: all stored certificates of all lineages, also of those that the configuration no longer names, what
// was issued before according to the history, the keys of orders in flight and the next keys. What cannot be read is left out; the error then
// names the first of it.
func (o *Ours) FromState(book *state.Book) error {
	names, err := book.Lineages()
	for _, name := range names {
		if problem := o.fromLineage(book.Lineage(name)); err == nil {
			err = problem
		}
	}
	return err
}

func (o *Ours) fromLineage(l *state.Lineage) error {
	record, _, first := l.Look()
	where := "certificate " + l.Name()
	generations, err := l.Generations()
	bad := map[string]bool{}
	for _, g := range generations {
		if r, revoked := l.Revocation(g.ID); revoked && r.KeyCompromised {
			bad[g.SPKI] = true
		}
	}
	for _, g := range generations {
		if o.Add("", g.Serial, g.Issuer, where); !bad[g.SPKI] {
			o.Add(g.SPKI, "", "", where)
		}
	}
	for _, event := range record.Events {
		if _, known := o.serials[event.Serial]; event.Event == "issued" && event.Serial != "" && !known {
			o.Add("", event.Serial, "CN=", where)
		}
	}
	for _, kind := range []bundle.KeyType{bundle.EC256, bundle.EC384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096} {
		if order, ok, _ := l.Order(kind); ok {
			o.addKey([]byte(order.Key), "an order for "+where)
		}
		if next, err := l.Next(kind); err == nil {
			o.addKey(next, "the next key of "+where)
		}
	}
	return errors.Join(first, err)
}

// addKey adds the public part of a private key in PEM.
func (o *Ours) addKey(text []byte, where string) {
	block, _ := pem.Decode(text)
	if block == nil {
		return
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return
	}
	if signer, ok := key.(crypto.Signer); ok {
		if der, err := x509.MarshalPKIXPublicKey(signer.Public()); err == nil {
			o.Add(bundle.SPKIOf(der), "", "", where)
		}
	}
}

// Collect returns what the state knows of and what the files have. The error says what could not be read.
func Collect(book *state.Book, patterns []string) (*Ours, error) {
	o := NewOurs()
	return o, errors.Join(o.FromState(book), o.FromFiles(patterns))
}

const (
	// mostFiles limits the files of a pattern.
	mostFiles = 5000
	// maxFile limits a file with certificates, in bytes.
	maxFile = 1 << 20
)

// FromFiles adds the certificates in the PEM or DER files that match the patterns: those of other programs and hosts. What cannot be read is
// left out; the error then names it.
func (o *Ours) FromFiles(patterns []string) error {
	var problems []error
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("%s: there is no such file, or mxcert may not look there", pattern)
		}
		problems = append(problems, err)
		for _, file := range files[:min(len(files), mostFiles)] {
			if err := o.fromFile(file); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", file, err))
			}
		}
	}
	return errors.Join(problems...)
}

func (o *Ours) fromFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		if inner, ok := errors.AsType[*os.PathError](err); ok {
			err = inner.Err
		}
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return err
	}
	certificates := Certificates(text)
	for _, c := range certificates {
		if !c.IsCA { // the chain of a file is the CA's
			e := FromCertificate(c)
			o.Add(e.SPKI, e.Serial, c.Issuer.CommonName, "file "+file)
		}
	}
	if len(certificates) == 0 {
		return errors.New("it has no certificate")
	}
	return nil
}

// Certificates reads all certificates of a text in PEM, or the one in DER.
func Certificates(text []byte) (list []*x509.Certificate) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // editors of Windows write it, and it would hide the first block
	if !bytes.Contains(text, []byte("-----BEGIN ")) {
		if c, err := x509.ParseCertificate(text); err == nil {
			list = append(list, c)
		}
		return list
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
}

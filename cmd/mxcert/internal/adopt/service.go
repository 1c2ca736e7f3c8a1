package adopt

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"syscall"

	"mxcert/acme/bundle"
)

// mostRead limits how much of a mail server's file is read.
const mostRead = 256 << 10

// KeysInService reads the certificates in files from which mail servers read theirs, and returns the SPKI hash of each one's key, as
// [bundle.Bundle.SPKI] does, with its file. It leaves out what cannot be read.
func KeysInService(files []string) map[string]string {
	keys := map[string]string{}
	for _, file := range files {
		text, err := readRegular(file)
		if err != nil {
			continue
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
				keys[bundle.SPKIOf(certificate.RawSubjectPublicKeyInfo)] = file
			}
			break // after the leaf come its issuers
		}
	}
	return keys
}

// readRegular reads the start of a regular file. It does not wait for a pipe.
func readRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, os.ErrInvalid
	}
	var text bytes.Buffer
	_, err = io.Copy(&text, io.LimitReader(file, mostRead))
	return text.Bytes(), err
}

package notify

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// mostRoots is the size of a file with roots, in bytes; that of all public ones has a quarter of it.
const mostRoots = 1 << 20

// CheckRoots finds out whether a file with root certificates can be used. path is absolute; "" stands for the roots of the system.
func CheckRoots(path string) error {
	_, err := rootsIn(path)
	return err
}

// rootsIn reads the certificates of a PEM file. The pool is nil, which stands for the roots of the system, if path is empty.
func rootsIn(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readSmall(path, mostRoots)
	if err != nil {
		return nil, rootsError(path, err)
	}
	pool, found := x509.NewCertPool(), false
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, rootsError(path, err)
		}
		pool.AddCert(certificate)
		found = true
	}
	if !found {
		return nil, rootsError(path, errors.New("it holds no PEM certificate"))
	}
	return pool, nil
}

func rootsError(path string, err error) error {
	return &Error{message: fmt.Sprintf("the roots in %s cannot be used: %s", path, without(err.Error())), kind: Setting, cause: sentinelOf(err),
		hint: "write the root certificate of your CA there, in PEM, readable by the user " + serviceUser + "; or remove ca_file"}
}

// untrusted explains a certificate that is not accepted; nil if the error is about something else. whose is the server, such as: the relay
// mail.example:587. setting is the path of ca_file below the channel; "" if the channel has none.
func untrusted(err error, whose, setting string, secrets ...string) *Error {
	bad, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return nil
	}
	e := &Error{message: fmt.Sprintf("the certificate of %s is wrong: %s", whose, without(bad.Err.Error(), secrets...)), kind: Encryption, temporary: true,
		hint: "look at it: openssl s_client -connect HOST:PORT (with -starttls smtp on port 587)"}
	if _, ok := errors.AsType[x509.HostnameError](bad.Err); ok {
		e.hint = "write the server's name as its certificate has it"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](bad.Err); ok && invalid.Reason == x509.Expired {
		e.hint = "the server needs a new certificate: tell those who run it; otherwise, is the clock of this host right?"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](bad.Err); ok {
		own := "write its root certificate into a file, and set " + setting + " to its path"
		if setting == "" {
			own = "add its root certificate to those of this host (update-ca-certificates), and restart mxcert"
		}
		e.hint = "if the CA is your own, " + own + "; otherwise the server does not send its intermediate certificates"
	}
	return e
}

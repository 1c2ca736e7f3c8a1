package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
)

// reason says why a member was not asked or did not answer, to follow its address, and what to do about it.
func (l *link) reason(err error) (text, hint string) {
	if text, hint = certificateReason(err); text != "" {
		return text, hint
	}
	if text, hint = l.alertReason(err); text != "" {
		return text, hint
	}
	if text, hint = netReason(err); text != "" {
		return text, hint
	}
	switch {
	case errors.Is(err, rpctypes.ErrNoLeader), errors.Is(err, rpctypes.ErrNotLeader), strings.Contains(err.Error(), "raft proposal dropped"):
		return "has no leader: the cluster has lost its quorum",
			"start the members of etcd that are down, and check the network between them: etcdctl endpoint status --cluster"
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		code(err) == codes.DeadlineExceeded, code(err) == codes.Canceled, strings.Contains(err.Error(), "keepalive ping failed"):
		return silence, silenceHint
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return "has too many requests", "look at the load of etcd"
	}
	if h, ok := errors.AsType[hinted](err); ok { // of this host, before anything was sent
		return "was not asked: " + plain(err), h.Hint()
	}
	return "fails: " + plain(err), "see the log of etcd"
}

const (
	silence     = "does not answer in time"
	silenceHint = "check that etcd is running there, and that no firewall is in the way: etcdctl endpoint health"
)

// hinted is an error that says what to do.
type hinted interface {
	error
	Hint() string
}

// certificateReason is about the server's certificate.
func certificateReason(err error) (text, hint string) {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "has a certificate from a CA that is not trusted", "set fleet.etcd.ca_file to the certificate of the CA that issued those of etcd"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "has a certificate for other names: " + plain(e),
			"write a name of the certificate into fleet.etcd.endpoints, or give etcd a certificate for this one"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired && e.Cert != nil {
			return "has a certificate that is valid " + span(e.Cert), "renew the certificate of etcd; if it is valid, correct the clock of this host"
		}
		return "has a certificate that is not valid: " + plain(e), "give etcd another certificate"
	}
	return "", ""
}

func span(c *x509.Certificate) string {
	return fmt.Sprintf("from %s to %s only", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
}

// alertReason is about the certificate of this host: the server says in an alert of TLS what it thinks of it. Its type is not exported.
func (l *link) alertReason(err error) (text, hint string) {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" {
		return "", ""
	}
	const next = "have a client certificate issued by the CA that etcd trusts (--trusted-ca-file), " +
		"and set fleet.etcd.certificate and fleet.etcd.private_key"
	switch said := strings.TrimPrefix(e.Err.Error(), "tls: "); said {
	case "bad certificate", "expired certificate", "unsupported certificate", "revoked certificate", "unknown certificate",
		"unknown certificate authority", "certificate required", "access denied":
		c := l.leaf()
		switch now := time.Now(); {
		case c == nil:
			return "wants a client certificate, and this host has none", next
		case now.After(c.NotAfter), now.Before(c.NotBefore):
			return "refuses the client certificate of this host: it is valid " + span(c), "renew the certificate in fleet.etcd.certificate"
		case said == "unknown certificate authority", said == "certificate required", said == "bad certificate":
			return "refuses the client certificate of this host: it is not from the CA that etcd trusts (" + said + ")", next
		default:
			return "refuses the client certificate of this host: " + said, next
		}
	default:
		return "ends the TLS handshake: " + said, "check that mxcert and etcd have a version of TLS in common (--tls-min-version)"
	}
}

// leaf returns the client certificate of this host.
func (l *link) leaf() *x509.Certificate {
	c := l.dials.client()
	if c == nil || len(c.Certificate) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// user is who this host is for etcd.
func (l *link) user() string {
	if c := l.leaf(); c != nil {
		return c.Subject.CommonName
	}
	return ""
}

// netReason is about the way to the server.
func netReason(err error) (text, hint string) {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return "has a name that cannot be resolved: " + plain(e), "correct fleet.etcd.endpoints, or use addresses, so that etcd does not depend on DNS"
	}
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, errForeign), noTLS:
		return "does not speak the protocol of etcd", "check the port and the scheme in fleet.etcd.endpoints"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses the connection", "start etcd there, and check that it listens for clients at this address (--listen-client-urls)"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "cannot be reached: there is no route to it", "check the network of this host"
	case errors.Is(err, io.EOF), strings.Contains(err.Error(), "error reading from server"), strings.Contains(err.Error(), "transport is closing"),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "ends the connection", "see the log of etcd; check that the scheme in fleet.etcd.endpoints is right"
	}
	if isTimeout(err) {
		return silence, silenceHint
	}
	return "", ""
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
)

// dials tells those who wait for a connection why it failed: gRPC keeps only a text of that.
type dials struct {
	mu      sync.Mutex
	waiting map[string][]chan error // by address
	last    map[string]error        // by address: of the last attempt, if that failed
	client  func() *tls.Certificate // of this host
}

func newDials() *dials {
	return &dials{waiting: map[string][]chan error{}, last: map[string]error{}, client: func() *tls.Certificate { return nil }}
}

// next returns a channel that gets the error of the next attempt to connect to an address that fails.
func (d *dials) next(address string) chan error {
	c := make(chan error, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[address] = append(d.waiting[address], c)
	return c
}

// forget ends next.
func (d *dials) forget(address string, c chan error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting[address] = slices.DeleteFunc(d.waiting[address], func(w chan error) bool { return w == c }); len(d.waiting[address]) == 0 {
		delete(d.waiting, address)
	}
}

func (d *dials) failed(address string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.waiting[address] {
		c <- err
	}
	delete(d.waiting, address)
	d.last[address] = err
}

func (d *dials) worked(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.last, address)
}

// why returns what gRPC means with an error of its own.
func (d *dials) why(address string, err error) error {
	if _, theirs := errors.AsType[rpctypes.EtcdError](err); theirs || code(err) != codes.Unavailable {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := d.last[address]; last != nil {
		return last
	}
	return err
}

func (d *dials) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		d.failed(address, err)
		return nil, err
	}
	return &observed{Conn: conn, dials: d, address: address}, nil
}

// observed is a connection that tells what ends it before etcd has said something.
type observed struct {
	net.Conn
	dials   *dials
	address string
	settled atomic.Bool // etcd has spoken, or it has been told why not
}

// Read is that of the connection.
func (o *observed) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	switch {
	case n > 4 && !settings(p):
		o.failed(errForeign)
	case n > 0 && !o.settled.Swap(true):
		o.dials.worked(o.address)
	case err != nil:
		o.failed(err)
	}
	return n, err
}

// Write is that of the connection. A server that refuses the client certificate says so, and closes, before it reads anything.
func (o *observed) Write(p []byte) (int, error) {
	n, err := o.Conn.Write(p)
	if err != nil && !o.settled.Load() {
		_ = o.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what it has said is here
		if _, said := o.Conn.Read(make([]byte, 1)); said != nil && !isTimeout(said) {
			err = said
		}
		o.failed(err)
	}
	return n, err
}

// Close closes it. gRPC does that, too, if etcd says nothing.
func (o *observed) Close() error {
	o.failed(errSilent)
	return o.Conn.Close()
}

func (o *observed) failed(err error) {
	if !o.settled.Swap(true) {
		o.dials.failed(o.address, err)
	}
}

// errForeign is what a server is that does not speak HTTP/2.
var errForeign = errors.New("it does not speak the protocol of etcd")

// settings reports whether bytes begin with a SETTINGS frame, as each server of HTTP/2 does (RFC 9113, section 3.4).
func settings(p []byte) bool { return p[0] == 0 && p[3] == 4 }

// credentials returns TLS that tells why a handshake failed.
func (d *dials) credentials(config *tls.Config) credentials.TransportCredentials {
	d.client = func() *tls.Certificate { return clientCertificate(config) }
	return &explained{TransportCredentials: credentials.NewTLS(config), dials: d}
}

// clientCertificate returns what this host shows, to explain why it is refused.
func clientCertificate(config *tls.Config) *tls.Certificate {
	if config.GetClientCertificate != nil {
		certificate, err := config.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil {
			return nil
		}
		return certificate
	}
	if len(config.Certificates) > 0 {
		return &config.Certificates[0]
	}
	return nil
}

// explained is TLS that tells why a handshake failed.
type explained struct {
	credentials.TransportCredentials
	dials *dials
}

// ClientHandshake is that of TLS.
func (n *explained) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	address := authority
	if o, ok := conn.(*observed); ok {
		o.settled.Store(true) // what becomes of the handshake is said here: the end of the connection must not be taken for that of the next one
		address, conn = o.address, o.Conn
	}
	secure, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		n.dials.failed(address, err)
		return nil, nil, err
	}
	return &observed{Conn: secure, dials: n.dials, address: address}, info, nil
}

// Clone is for gRPC.
func (n *explained) Clone() credentials.TransportCredentials {
	return &explained{TransportCredentials: n.TransportCredentials.Clone(), dials: n.dials}
}

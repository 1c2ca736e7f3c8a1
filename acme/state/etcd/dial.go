package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// dials tells who waits for a connection why it failed: gRPC keeps that as text.
type dials struct {
	mu      sync.Mutex
	waiting map[string][]chan error // by address
	last    map[string]error
}

func newDials() *dials { return &dials{waiting: map[string][]chan error{}, last: map[string]error{}} }

// next returns a channel that gets the error of the next attempt to connect to an address that fails.
func (d *dials) next(address string) <-chan error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan error, 1)
	d.waiting[address] = append(d.waiting[address], c)
	return c
}

func (d *dials) failed(address string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[address] = err
	for _, c := range d.waiting[address] {
		c <- err
	}
	delete(d.waiting, address)
}

func (d *dials) worked(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.last, address)
	delete(d.waiting, address)
}

func (d *dials) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		d.failed(address, err)
		return nil, err
	}
	return &observed{Conn: conn, dials: d, address: address}, nil
}

// observed is a connection that notes what ends it before the first answer of the server.
type observed struct {
	net.Conn
	dials   *dials
	address string
	plain   bool
	heard   bool
}

func (o *observed) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	if !o.heard {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			o.dials.failed(o.address, err)
		}
		if n > 0 {
			o.heard = true
			o.dials.worked(o.address)
		}
	}
	return n, err
}

func (d *dials) credentials(config *tls.Config) credentials.TransportCredentials {
	return &noted{TransportCredentials: credentials.NewTLS(config), dials: d}
}

// noted notes why a handshake failed.
type noted struct {
	credentials.TransportCredentials
	dials *dials
}

// ClientHandshake is that of TLS.
func (n *noted) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	address := authority
	if o, ok := conn.(*observed); ok {
		address, conn = o.address, o.Conn
	}
	secure, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		n.dials.failed(address, err)
		return nil, nil, err
	}
	return &observed{Conn: secure, dials: n.dials, address: address}, info, nil
}

// Clone is needed by gRPC.
func (n *noted) Clone() credentials.TransportCredentials {
	return &noted{TransportCredentials: n.TransportCredentials.Clone(), dials: n.dials}
}

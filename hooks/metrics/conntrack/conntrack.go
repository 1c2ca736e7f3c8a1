// Package conntrack stands in for github.com/mwitkow/go-conntrack in go.mod. exporter-toolkit imports that library by way of
// prometheus/common/config, for HTTP clients that mxcert does not make. The original imports golang.org/x/net/trace, which registers pages that
// execute html/template; then the linker must keep every exported method, and mxcert grows by 12 MB (TestNoTemplates in cmd/mxcert). This one
// has the functions that are called there. It dials, and counts nothing.
package conntrack

import (
	"context"
	"net"
)

// DialFunc dials, as net.Dialer.DialContext does.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Option changes how connections are dialed.
type Option func(dial *DialFunc)

// DialWithTracing changes nothing.
func DialWithTracing() Option { return func(*DialFunc) {} }

// DialWithName changes nothing.
func DialWithName(string) Option { return func(*DialFunc) {} }

// DialWithDialContextFunc dials with another function.
func DialWithDialContextFunc(f DialFunc) Option { return func(dial *DialFunc) { *dial = f } }

// NewDialContextFunc returns a function that dials.
func NewDialContextFunc(options ...Option) DialFunc {
	dial := new(net.Dialer).DialContext
	for _, option := range options {
		option(&dial)
	}
	return dial
}

// Package deadline is for tests of what happens when time is up: the test says when that is, not a clock.
package deadline

import "context"

// Context is a context whose time is over when Over is closed.
type Context struct {
	context.Context
	Over chan struct{}
}

// New returns a context that ends with [context.DeadlineExceeded] when its Over is closed.
func New(parent context.Context) *Context {
	return &Context{Context: parent, Over: make(chan struct{})}
}

// Done is closed when time is over.
func (c *Context) Done() <-chan struct{} { return c.Over }

// Err is context.DeadlineExceeded when time is over.
func (c *Context) Err() error {
	select {
	case <-c.Over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

package acme

import (
	"context"
	"errors"
	"time"

	"mxcert/acme/transport"
)

// Clock returns what time it is at the CA, by the Date of its answer: with one request, which needs no account and counts for no limit. It is
// an outside clock for a host whose own clock may jump. The error is that of the request, or says that the answer has no date.
func (c *Client) Clock(ctx context.Context) (time.Time, error) {
	at, err := transport.Clock(c.pool.Begin(ctx, 1))
	if err != nil {
		return time.Time{}, err
	}
	if at.IsZero() {
		return time.Time{}, errors.New(c.ca() + " does not say what time it is there")
	}
	return at, nil
}

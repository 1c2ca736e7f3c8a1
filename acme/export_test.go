package acme

import (
	"time"

	"mxcert/acme/transport"
)

// SetPatience shortens the time for one request and the life of idle connections, so that tests of slow CAs do not take
// minutes. It is called before the first request.
func (c *Client) SetPatience(d time.Duration) {
	settings := c.pool.Settings()
	settings.Patience = d
	c.pool = transport.New(settings)
}

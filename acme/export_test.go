package acme

import "time"

// SetPatience shortens the time for one request and the life of idle connections, so that tests of slow CAs do not take
// minutes. It is called before the first request.
func (c *Client) SetPatience(d time.Duration) { c.patience, c.inner.IdleConnTimeout = d, d }

// SpoilNonces makes the nonces that are kept for the next order such as the CA never gave, and counts them.
func (c *Client) SpoilNonces() int {
	for i := range c.nonces.kept {
		c.nonces.kept[i].value = "bm90IG9mIHRoaXMgQ0E" + string('a'+rune(i))
	}
	return len(c.nonces.kept)
}

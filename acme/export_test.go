package acme

import "time"

// SetPatience shortens the time for one request, so that tests of slow CAs do not take minutes.
func (c *Client) SetPatience(d time.Duration) { c.patience = d }

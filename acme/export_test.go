package acme

import (
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/transport"
)

// SetPatience shortens the time for one request and the life of idle connections, so that tests of slow CAs do not take
// minutes. It is called before the first request.
func (c *Client) SetPatience(d time.Duration) {
	settings := c.pool.Settings()
	settings.Patience = d
	c.pool = transport.New(settings)
}

// NoteFailures is what conclude notes about failed proofs.
var NoteFailures = noteFailures

// Only is the account of all names.
func Only(provider string, solver dnsprovider.Solver) dnsprovider.Accounts {
	return dnsprovider.Accounts{dnsprovider.NewAccount("", provider, func() (dnsprovider.Solver, error) { return solver, nil })}
}

package ca

import (
	"fmt"
	"path"

	"github.com/letsencrypt/pebble/v2/acme"
	"github.com/letsencrypt/pebble/v2/core"
)

// Deactivate ends an account, as its owner may over ACME (RFC 8555 section 7.3.6).
func (c *CA) Deactivate(url string) error {
	id := path.Base(url)
	account := c.store.GetAccountByID(id)
	if account == nil {
		return fmt.Errorf("deactivate an account: there is no %s", url)
	}
	ended := &core.Account{Account: account.Account, Key: account.Key, ID: id}
	ended.Status = acme.StatusDeactivated
	return c.store.UpdateAccountByID(id, ended)
}

package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/state"
)

// contactTime bounds a change of the contact: an order waits for it.
const contactTime = 20 * time.Second

// tellContact tells the CA the contact that is configured now (RFC 8555 section 7.3.2). Not to succeed is no failure:
// mail about the account goes to the old address until the next try.
func (k keeper) tellContact(ctx context.Context, account state.Account) state.Account {
	changed, err := k.changeContact(ctx, account)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		k.say("account", fmt.Sprintf("warning: the contact of the account is still %s: %s", orNone(account.Email), oneLine(err.Error())))
	}
	return changed
}

func (k keeper) changeContact(ctx context.Context, account state.Account) (state.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, contactTime)
	defer cancel()
	o, err := k.begin(ctx, account, accountRequests)
	if err != nil {
		return account, err
	}
	contact := contactOf(k.settings.Email)
	if contact == nil {
		contact = []string{} // an empty list takes the contact away
	}
	body, err := json.Marshal(map[string][]string{"contact": contact})
	if err != nil {
		return account, err
	}
	p := &poster{operation: o}
	if _, err := call(o, func() (string, error) { return p.post(account.URL, body) }); err != nil {
		return account, o.explain("account", err)
	}
	account.Email = k.settings.Email
	if err := k.store.SaveAccount(account); err != nil {
		return account, err
	}
	k.say("account", fmt.Sprintf("the contact is %s now", orNone(account.Email)))
	return account, nil
}

func orNone(email string) string {
	if email == "" {
		return "none"
	}
	return email
}

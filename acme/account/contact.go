package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/state"
)

// contactTime bounds a change of the contact: an order waits for it.
const contactTime = 20 * time.Second

// tellContact sends the configured contact to the CA (RFC 8555 section 7.3.2). A failure is only a warning: until the next try
// the CA writes to the old address.
func (r *Registrar) tellContact(ctx context.Context, account state.Account) state.Account {
	changed, err := r.changeContact(ctx, account)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		r.say("account", fmt.Sprintf("warning: the contact of the account is still %s: %s", orNone(account.Email), finding.Line(err)))
	}
	return changed
}

func (r *Registrar) changeContact(ctx context.Context, account state.Account) (state.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, contactTime)
	defer cancel()
	s, err := r.begin(ctx, account)
	if err != nil {
		return account, err
	}
	contact := contactOf(r.settings.Email)
	if contact == nil {
		contact = []string{} // an empty list removes the contact
	}
	body, err := json.Marshal(map[string][]string{"contact": contact})
	if err != nil {
		return account, err
	}
	p := &poster{Session: s}
	if _, err := session.Call(s, func() (string, error) { return p.post(account.URL, body) }); err != nil {
		return account, s.Explain("account", err)
	}
	account.Email = r.settings.Email
	if err := r.store.SaveAccount(account); err != nil {
		return account, err
	}
	r.say("account", fmt.Sprintf("the contact is %s now", orNone(account.Email)))
	return account, nil
}

func contactOf(email string) []string {
	if email == "" {
		return nil
	}
	return []string{"mailto:" + email}
}

func orNone(email string) string {
	if email == "" {
		return "none"
	}
	return email
}

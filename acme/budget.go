package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// Claim is what the budget of a CA has to know about an order before it is placed.
type Claim struct {
	Names       []string // DNS names, lower-case A-labels, wildcards allowed
	KeyType     bundle.KeyType
	New         bool          // these names have no certificate yet
	Replacement bool          // it replaces a certificate within the window that the CA suggested
	Life        time.Duration // of the certificate in service; 0 if there is none
	Expires     time.Time     // its end: waits that the CA does not ask for end before a part of what is left; zero if there is none
	Urgent      bool          // a person wants it at once: only limits of the CA itself hold it
	Person      bool          // a person waits for it: a breaker does not hold it
	Placed      bool          // an order for these names is in flight, so it is counted already: limits do not hold what finishes it
}

func (c Claim) purchase() schedule.Purchase {
	return schedule.Purchase{Names: c.Names, Key: string(c.KeyType), New: c.New, Replacement: c.Replacement, Life: c.Life, Expires: c.Expires}
}

// limits returns the limits that apply to a claim at this CA. If the CA publishes none, an operator may order without limit.
func (c *Client) limits(claim Claim) schedule.Limits {
	if published := schedule.LimitsOf(c.settings.Directory); claim.Urgent && published.SetIsFixed {
		return published
	} else if claim.Urgent {
		return schedule.Limits{}
	}
	return c.own()
}

// own returns what mxcert orders from this CA at most without a person's request: less than the CA allows, or as much as the operator
// has set.
func (c *Client) own() schedule.Limits {
	if c.settings.Limits != nil {
		return *c.settings.Limits
	}
	return schedule.LimitsOf(c.settings.Directory).Own()
}

// Budget says in words how much mxcert orders from this CA without a person's request, and why.
func (c *Client) Budget() string {
	switch {
	case c.settings.Limits != nil:
		return fmt.Sprintf("acme.limits: mxcert asks %s for at most %s", c.ca(), c.own())
	case c.private():
		return fmt.Sprintf("acme.limits is not set: mxcert asks %s for at most %s", c.ca(), c.own())
	}
	return fmt.Sprintf("mxcert asks %s for at most %s, to stay below its limits", c.ca(), c.own())
}

// private reports whether the limits of this CA are for the operator to know.
func (c *Client) private() bool {
	_, public := authority.AtHost(c.settings.Directory)
	return !public
}

// Held returns nil if the CA may be asked now for an order, else a [*schedule.Held]. It changes nothing.
func (c *Client) Held(claim Claim) error {
	usage, err := c.store.Usage(c.settings.Directory)
	if err != nil {
		return err
	}
	if now := time.Now(); !claim.Person && usage.Breaker.OpenFor(now, claim.Expires) {
		return c.resting(usage.Breaker, claim)
	}
	if claim.Placed {
		return nil // if it has to be placed anew, reserve asks the budget
	}
	return c.overBudget(&usage.Ledger, claim)
}

// resting returns the hold of a CA that has failed and is left alone for a while.
func (c *Client) resting(b schedule.Breaker, claim Claim) error {
	return &schedule.Held{Until: b.UntilFor(claim.Expires), Why: c.ca() + " failed: " + b.Reason, NextStep: "mxcert tries the CA again then", Skippable: !claim.Urgent}
}

func (c *Client) overBudget(ledger *schedule.Ledger, claim Claim) error {
	held := ledger.Check(time.Now(), claim.purchase(), c.limits(claim))
	if held == nil {
		return nil
	}
	held.NextStep, held.Skippable = "`mxcert history` shows why they were ordered", !claim.Urgent
	if c.private() {
		held.NextStep += "; acme.limits says how much mxcert may ask of a private CA"
	}
	return held
}

// reserve notes an order before it is placed, if the budget allows it: several processes and certificates share the
// account.
func (c *Client) reserve(ctx context.Context, claim Claim) error {
	return c.store.ChangeUsage(ctx, c.settings.Directory, func(u *state.Usage) error {
		if err := c.overBudget(&u.Ledger, claim); err != nil {
			return err
		}
		u.Ledger.Place(time.Now(), claim.purchase())
		c.paces.exchange(u)
		return nil
	})
}

// withdraw removes the note of an order that was not placed.
func (c *Client) withdraw(claim Claim) error {
	return c.change(func(u *state.Usage) { u.Ledger.Withdraw(claim.purchase()) })
}

// conclude notes what an attempt says about the CA and the names: whether the CA works, and for which name the proof failed.
func (c *Client) conclude(err error) error {
	var held *schedule.Held
	if errors.As(err, &held) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	e, ours := errors.AsType[*Error](err)
	fault := ours && faultOfCA(e)
	before, readErr := c.store.Usage(c.settings.Directory)
	if readErr == nil && !fault && before.Breaker.Failures == 0 && (!ours || e.Identifier == "") {
		return nil // there is nothing to note
	}
	return c.change(func(u *state.Usage) {
		if ours && e.Identifier != "" {
			noteFailures(&u.Ledger, e)
		}
		if fault {
			u.Breaker.Fail(time.Now(), e.RetryAfter, e.Message)
		} else {
			u.Breaker = schedule.Breaker{}
		}
	})
}

// change makes notes that must be made even if the operation's context has ended.
func (c *Client) change(change func(*state.Usage)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.store.ChangeUsage(ctx, c.settings.Directory, func(u *state.Usage) error {
		change(u)
		return nil
	})
}

// faultOfCA reports whether the cause of an error is the CA, or the connection to it, and not this one order.
func faultOfCA(e *Error) bool {
	switch e.ErrKind {
	case "ca-unreachable", "ca-error", "tls":
		return true
	}
	return false
}

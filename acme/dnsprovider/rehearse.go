package dnsprovider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"mxcert/acme/resolve"
)

// CleanUpTime limits the removal of the records of a rehearsal, also after an interruption.
const CleanUpTime = 2 * time.Minute

// Rehearse does for names what an order does, without a CA: it creates a TXT record with a random value at _acme-challenge.NAME for each,
// waits until the authoritative name servers show it, and removes it. Records of others at the same names stay, as far as the provider can
// leave them alone. require and timeout say how long it waits, see [resolve.Resolver.AwaitTXT]; progress may be nil. The error is an *Error,
// a *resolve.Error, or the context's; errors of the removal are joined to it.
func Rehearse(ctx context.Context, solver Solver, resolver *resolve.Resolver, names []string, require resolve.Require, timeout time.Duration, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	var records []TXT
	for _, name := range names {
		domain := strings.TrimPrefix(name, "*.")
		place, err := resolver.Locate(ctx, "_acme-challenge."+domain)
		if err != nil {
			return err
		}
		keyAuth := "mxcert-test-" + rand.Text()
		sum := sha256.Sum256([]byte(keyAuth)) // the value, as RFC 8555 section 8.4 makes it
		records = append(records, TXT{Place: place, Domain: domain, Value: base64.RawURLEncoding.EncodeToString(sum[:]), Token: rand.Text(), KeyAuth: keyAuth})
	}
	if preparer, ok := solver.(Preparer); ok {
		if err := preparer.Prepare(ctx, records); err != nil {
			return err
		}
	}
	batch, pause := len(records), time.Duration(0)
	if interval, yes := Sequential(solver); yes {
		batch, pause = 1, interval
	}
	for len(records) > 0 {
		n := min(batch, len(records))
		if err := rehearse(ctx, solver, resolver, records[:n], require, timeout, progress); err != nil {
			return err
		}
		if records = records[n:]; len(records) > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
	}
	return nil
}

func rehearse(ctx context.Context, solver Solver, resolver *resolve.Resolver, records []TXT, require resolve.Require, timeout time.Duration, progress func(string)) (err error) {
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), CleanUpTime)
		defer cancel()
		if failed := solver.CleanUp(bounded, records); failed != nil && err == nil {
			err = fmt.Errorf("the test record was created, but cannot be removed: %w", failed)
		} else if failed != nil {
			err = errors.Join(err, failed)
		} else if err == nil {
			progress("the test records are removed")
		}
	}()
	if err := solver.Present(ctx, records); err != nil {
		return err
	}
	var wanted []resolve.TXT
	for _, r := range records {
		progress("created a test record at " + resolve.PlainName(r.Name))
		wanted = append(wanted, resolve.TXT{Name: r.Name, Zone: r.Zone, Values: []string{r.Value}})
	}
	return resolver.AwaitTXT(ctx, wanted, require, timeout, progress)
}

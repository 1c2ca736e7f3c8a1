package publish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

const (
	// attempts is how often a change is made until the service holds it.
	attempts = 5
	// settle is how long to wait until a second look finds out whether somebody else has written the same record set in the same moment.
	settle = 300 * time.Millisecond
	// longest is the longest TTL (RFC 2181 section 8).
	longest = (1<<31 - 1) * time.Second
)

// publisher is a [dane.Publisher] over a service: it reads, changes, and reads again.
type publisher struct {
	service
	mu sync.Mutex // one change at a time, so that those of one process do not meet
}

// List returns the records as the service holds them.
func (p *publisher) List(ctx context.Context, at dane.Place) ([]resolve.TLSA, time.Duration, error) {
	if err := p.check(at, nil); err != nil {
		return nil, 0, err
	}
	found, err := p.look(ctx, at)
	if err != nil {
		return nil, 0, err
	}
	var records []resolve.TLSA
	for _, h := range found.records {
		if !h.disabled && !h.foreign {
			records = append(records, h.TLSA)
		}
	}
	return records, found.ttl, nil
}

// Add adds records by value.
func (p *publisher) Add(ctx context.Context, at dane.Place, records []resolve.TLSA, ttl time.Duration) error {
	if ttl < time.Second || ttl > longest {
		return p.mistake(at, fmt.Sprintf("a TTL of %s cannot be published", ttl), "choose a TTL from a second to a day, such as 1h")
	}
	return p.apply(ctx, at, records, func(s set) change {
		c := change{before: s, ttl: ttl.Truncate(time.Second)}
		if s.ttl > 0 {
			c.ttl = s.ttl
		}
		for _, r := range records {
			if !s.has(r) && !contains(c.add, r) {
				c.add = append(c.add, r)
			}
		}
		return c
	})
}

// Remove removes records by value.
func (p *publisher) Remove(ctx context.Context, at dane.Place, records []resolve.TLSA) error {
	return p.apply(ctx, at, records, func(s set) change {
		c := change{before: s, ttl: s.ttl}
		for _, h := range s.records {
			if !h.foreign && contains(records, h.TLSA) && !contains(c.remove, h.TLSA) {
				c.remove = append(c.remove, h.TLSA)
			}
		}
		return c
	})
}

// Probe tests whether the service would let mxcert write.
func (p *publisher) Probe(ctx context.Context, at dane.Place) error {
	if err := p.check(at, nil); err != nil {
		return err
	}
	if _, err := p.look(ctx, at); err != nil {
		return err
	}
	return p.probe(ctx, at)
}

// look reads, and refuses a name that is an alias.
func (p *publisher) look(ctx context.Context, at dane.Place) (set, error) {
	found, err := p.read(ctx, at)
	if err == nil && found.alias != "" {
		return set{}, &Error{
			service: p.String(), subject: at.Name, kind: "dns-alias", reason: fmt.Sprintf("the name is an alias (CNAME) of %.200q, so it cannot have TLSA records", found.alias),
			hint: "mxcert publishes at the end of an alias; if the alias is new, the next pass follows it",
		}
	}
	return found, err
}

// apply makes a change until the service holds it.
func (p *publisher) apply(ctx context.Context, at dane.Place, records []resolve.TLSA, edit func(set) change) error {
	if err := p.check(at, records); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	written, settled := 0, !p.replaces()
	for {
		found, err := p.look(ctx, at)
		if err != nil {
			return err
		}
		todo := edit(found)
		switch {
		case len(todo.add)+len(todo.remove) == 0 && (written == 0 || settled):
			return nil
		case len(todo.add)+len(todo.remove) == 0:
			settled = true
			if err := sleep(ctx, settle/2+rand.N(settle)); err != nil {
				return err
			}
			continue
		case written == attempts:
			return p.notHeld(at, todo)
		case written > 0: // somebody else has written too, or the service needs a moment
			if err := sleep(ctx, rand.N(settle/4*time.Duration(written))); err != nil {
				return err
			}
		}
		written, settled = written+1, !p.replaces()
		if err := p.write(ctx, at, todo); err != nil && !isConflict(err) {
			return err
		} else if err != nil && written == attempts {
			return err
		}
	}
}

// notHeld says that a service has agreed to a change again and again, and does not hold it.
func (p *publisher) notHeld(at dane.Place, todo change) error {
	what := "it does not hold " + list(todo.add)
	if len(todo.add) == 0 {
		what = "it still holds " + list(todo.remove)
	}
	return &Error{
		service: p.String(), subject: at.Name, kind: "dns-publish", temporary: true,
		reason: fmt.Sprintf("it has agreed to the change %d times, but %s", attempts, what),
		hint:   "look whether the service can hold TLSA records, and whether another program writes or removes records at this name",
	}
}

// check refuses what no service could do.
func (p *publisher) check(at dane.Place, records []resolve.TLSA) error {
	for _, name := range []string{at.Zone, at.Name} {
		if len(name) < 2 || len(name) > 255 || !strings.HasSuffix(name, ".") || strings.Contains(name, "..") || name != strings.ToLower(name) || strings.ContainsFunc(name, strange) {
			return p.mistake(at, fmt.Sprintf("%.260q is not a fully qualified name in lower case", name), "this is a fault of mxcert: please report it")
		}
	}
	if at.Name != at.Zone && !strings.HasSuffix(at.Name, "."+at.Zone) {
		return p.mistake(at, "the name is not in the zone "+at.Zone, "this is a fault of mxcert: please report it")
	}
	for _, r := range records {
		if len(r.Data) == 0 {
			return p.mistake(at, fmt.Sprintf("the record %s has no data", r), "this is a fault of mxcert: please report it")
		}
	}
	return nil
}

// strange reports characters that names of mail hosts do not have, and that mean something in addresses or zone files.
func strange(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`/?#%\"';()@$<>{}|^&=+,:`+"`", r)
}

func (p *publisher) mistake(at dane.Place, reason, hint string) error {
	return &Error{service: p.String(), subject: at.Name, kind: "dns-config", reason: reason, hint: hint}
}

func (s set) has(r resolve.TLSA) bool {
	for _, h := range s.records {
		if !h.disabled && !h.foreign && same(h.TLSA, r) {
			return true
		}
	}
	return false
}

func contains(records []resolve.TLSA, r resolve.TLSA) bool {
	for _, other := range records {
		if same(other, r) {
			return true
		}
	}
	return false
}

func same(a, b resolve.TLSA) bool { return a.String() == b.String() }

// list names records in messages.
func list(records []resolve.TLSA) string {
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%.80s", r.String()))
	}
	if len(all) > 3 {
		all = append(all[:3], fmt.Sprintf("and %d more", len(all)-3))
	}
	return strings.Join(all, ", ")
}

// texts returns records in the form of a zone file.
func texts(records []resolve.TLSA) []string {
	all := make([]string, 0, len(records))
	for _, r := range records {
		all = append(all, r.String())
	}
	return all
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

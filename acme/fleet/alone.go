package fleet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/finding"
)

// Danger is what decides whether a host orders without the store.
type Danger struct {
	NotAfter time.Time     // of what this host serves; zero if it serves nothing
	Life     time.Duration // of that certificate
	Managed  bool          // mxcert manages TLSA records of it
	Serial   string        // of what this host serves
}

// Held says that a host waits with an order, and until when.
type Held struct {
	Until  time.Time
	Why    string
	Advice string
	Cause  error
}

// Error says why.
func (e *Held) Error() string { return e.Why }

// Kind is "fleet-away".
func (e *Held) Kind() string { return "fleet-away" }

// Temporary is true.
func (e *Held) Temporary() bool { return true }

// Hint says what to do.
func (e *Held) Hint() string { return e.Advice }

// Unwrap returns why the store cannot be used.
func (e *Held) Unwrap() error { return e.Cause }

// When a host orders alone.
const (
	lastShare   = 5              // less than this part of the life is left
	longestWait = 24 * time.Hour // over which hosts are spread, at most a tenth of what is left
	lookAgain   = 5 * time.Minute
)

// alone decides whether this host orders without the store.
func (m *Member) alone(name string, danger Danger, cause error) (*Lead, error) {
	now := m.now()
	held := &Held{Until: now.Add(lookAgain), Cause: cause, Why: "the store of the fleet cannot be used (" + finding.Line(cause) + "), and without it nothing is ordered", Advice: hintOf(cause)}
	switch {
	case errors.As(cause, new(*Refusal)):
		return nil, held
	case !m.set.Alone:
		held.Advice += "; with fleet.alone a host may order alone before its certificate ends"
		return nil, held
	case danger.Managed:
		held.Advice += "; a host never orders alone if mxcert manages TLSA records, because other hosts would not know its key"
		return nil, held
	case danger.NotAfter.IsZero() || danger.Life <= 0:
		return nil, held
	}
	at := m.aloneAt(name, danger)
	if now.Before(at) {
		held.Until = earlierOf(held.Until, at)
		held.Why += fmt.Sprintf("; this host orders alone from %s on", at.UTC().Format(time.RFC3339))
		return nil, held
	}
	lead := &Lead{Alone: true, member: m, name: name}
	m.mu.Lock()
	m.leads[name] = lead
	m.mu.Unlock()
	m.log.Warn("this host orders alone: the store of the fleet cannot be used, and the certificate ends soon", "certificate", name, "not_after", danger.NotAfter)
	return lead, nil
}

// aloneAt returns when a host orders alone: once a fifth of the life is left, and after a delay that differs from host to host, so that the
// first one's certificate can reach the others when the store is back.
func (m *Member) aloneAt(name string, danger Danger) time.Time {
	left := danger.Life / lastShare
	from := danger.NotAfter.Add(-left)
	spread := min(longestWait, left/10)
	sum := sha256.Sum256([]byte(m.set.Host + "\n" + name + "\n" + danger.Serial + "\n" + danger.NotAfter.UTC().Format(time.RFC3339)))
	share := float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
	return from.Add(time.Duration(share * float64(spread)))
}

func earlierOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

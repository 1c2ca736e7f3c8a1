package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"mxcert/acme/state"
)

// memory is what this host remembers about its fleet, in fleet.json: small, and never needed to serve mail.
type memory struct {
	Version  int                  `json:"version"`
	Fleet    string               `json:"fleet"`
	Cluster  string               `json:"cluster,omitempty"`  // what names the store
	Made     string               `json:"made,omitempty"`     // the mark of the fleet in it
	Sessions []string             `json:"sessions,omitempty"` // the last ones of the daemon, newest first, see mostSessions
	Taken    map[string]mark      `json:"taken,omitempty"`    // the newest generation seen here, by the key of its value
	Away     *away                `json:"away,omitempty"`
	Up       time.Time            `json:"up,omitzero"`     // since when the store answers
	Met      time.Time            `json:"met,omitzero"`    // when this host has met this store
	Hosts    map[string]time.Time `json:"hosts,omitempty"` // when each was last at work

	Forgotten map[string]int64 `json:"forgotten,omitempty"` // the sequence of the last note by which somebody has forgotten a host by hand
}

// mark says what the newest value of a key was.
type mark struct {
	Generation int64     `json:"generation"`
	Serial     string    `json:"serial,omitempty"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	Hash       string    `json:"hash,omitempty"` // of a value that is not a bundle
}

// away says since when the store is away.
type away struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Hint   string    `json:"hint,omitempty"`
}

// recall reads the memory. A damaged one is set aside: what must not go backward is also in the lineages (their notAfter).
func (m *Member) recall() {
	var remembered memory
	err := m.book.Remembered(state.Fleet, &remembered)
	switch {
	case errors.Is(err, state.ErrDamaged):
		aside, _ := m.book.SetAside(state.Fleet)
		m.log.Warn("what this host remembers about its fleet was damaged; it starts anew", "kept", aside)
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		m.refuse(&Refusal{Why: err.Error(), Advice: "install the mxcert that wrote it, or a later one"})
	}
	if err != nil || remembered.Fleet != m.set.Name {
		remembered = memory{} // another fleet has other generations
	}
	m.mu.Lock()
	m.memory = remembered
	m.mu.Unlock()
}

// refuse keeps the store from being asked, until Run tries anew.
func (m *Member) refuse(why *Refusal) {
	m.mu.Lock()
	m.down = why
	m.mu.Unlock()
}

// remember changes the memory, durably: other processes of this host change it, too. change returns false if nothing is to be stored.
func (m *Member) remember(change func(*memory) bool) error {
	m.remembering <- struct{}{}
	defer func() { <-m.remembering }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	release, err := m.book.Hold(ctx, state.Fleet)
	if err != nil {
		return err
	}
	defer release()
	var now memory
	switch err := m.book.Remembered(state.Fleet, &now); {
	case errors.Is(err, state.ErrDamaged):
		_, _ = m.book.SetAside(state.Fleet)
		now = memory{}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if now.Fleet != m.set.Name {
		now = memory{}
	}
	changed := change(&now)
	if changed {
		now.Version, now.Fleet = 1, m.set.Name
		if err := m.book.Remember(state.Fleet, now); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.memory = now
	m.mu.Unlock()
	return nil
}

// mark returns what is remembered of a value.
func (m *Member) mark(place string) mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory.Taken[place]
}

// seen remembers the newest value of a key. It never goes backward.
func (m *Member) seen(place string, now mark) error {
	if before := m.mark(place); before == now || before.Generation > now.Generation {
		return nil
	}
	return m.remember(func(all *memory) bool {
		before := all.Taken[place]
		if before == now || !before.before(now) {
			return false
		}
		if all.Taken == nil {
			all.Taken = map[string]mark{}
		}
		all.Taken[place] = now
		return true
	})
}

// before reports whether another value may follow: it has a later generation, or the same one and ends later or is no bundle. Two hosts
// can have made the same generation if the store was lost between.
func (k mark) before(next mark) bool {
	if k.Generation != next.Generation {
		return k.Generation < next.Generation
	}
	return k.Serial == next.Serial || next.NotAfter.After(k.NotAfter)
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Refusal says why this host takes no part in the fleet although the store answers.
type Refusal struct {
	Why    string
	Advice string
}

// Error says why.
func (r *Refusal) Error() string { return r.Why }

// Hint says what to do.
func (r *Refusal) Hint() string { return r.Advice }

// Kind is "fleet-refused".
func (r *Refusal) Kind() string { return "fleet-refused" }

// Is makes it a kind of ErrAway: this host cannot use the store.
func (r *Refusal) Is(target error) bool { return target == state.ErrAway }

func refusal(advice, format string, args ...any) *Refusal {
	return &Refusal{Why: fmt.Sprintf(format, args...), Advice: advice}
}

func (all *memory) health() Health {
	if all.Away != nil {
		return Health{Since: all.Away.Since, Reason: all.Away.Reason, Hint: all.Away.Hint}
	}
	return Health{Up: !all.Up.IsZero(), Since: all.Up}
}

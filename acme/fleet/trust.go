package fleet

import (
	"maps"
	"slices"
	"strings"
	"time"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// trust is whom a host believes and encrypts to: the recipients of its configuration, those that trusted recipients have added, without those
// that were removed. A trust is not changed: [trust.learn] returns another one.
//
//   - A removal wins over every addition and over the configuration, and is remembered on the disk for good: who replays an old addition, or
//     deletes the removal, changes nothing. A host that was removed comes back only with a new identity.
//   - A removal counts if its signer was trusted when this host saw it. What a removed host signs afterwards does not count.
//   - An addition counts as long as its signer is trusted: who was let in by an intruder leaves with him. So who removes a host signs again
//     what it had signed and what is to stay ([trust.remove]).
//
// What this cannot do: a host that joins while a stranger rules the store sees only what the stranger shows. It should have all recipients in
// its configuration.
type trust struct {
	fleet      string
	own        seal.Recipient
	configured map[seal.Recipient]bool
	added      map[seal.Recipient]map[seal.Recipient]statement // by who was added and who signed it
	removed    map[seal.Recipient]statement
	effective  map[seal.Recipient]bool // what follows from the others
}

// statement is a signed word about a recipient, stored as recipient/AGE1….
type statement struct {
	Version   int            `json:"version"`
	Fleet     string         `json:"fleet"`
	Recipient seal.Recipient `json:"recipient"`
	Host      string         `json:"host"`  // whose it is, or what: for people
	State     string         `json:"state"` // added or removed
	At        time.Time      `json:"at"`    // for people

	by    seal.Recipient
	value []byte // as stored
}

const (
	isAdded   = "added"
	isRemoved = "removed"

	maxAdded   = 2 * seal.MaxRecipients // recipients that were ever added: a bound on memory and on the file
	maxRemoved = 20 * seal.MaxRecipients
)

// recipientKey is the place of the statement about a recipient.
func recipientKey(r seal.Recipient) string { return "recipient/" + string(r) }

// newTrust is the trust of a host that knows its configuration only. Its own recipient belongs to it.
func newTrust(fleet string, own seal.Recipient, configured []seal.Recipient) *trust {
	t := &trust{
		fleet: fleet, own: own, configured: map[seal.Recipient]bool{own: true},
		added: map[seal.Recipient]map[seal.Recipient]statement{}, removed: map[seal.Recipient]statement{},
	}
	for _, recipient := range configured {
		t.configured[recipient] = true
	}
	t.effective = t.conclude()
	return t
}

// trusts reports whether what a recipient signs counts.
func (t *trust) trusts(r seal.Recipient) bool { return t.effective[r] }

// recipients returns to whom secrets are encrypted, sorted.
func (t *trust) recipients() []seal.Recipient { return slices.Sorted(maps.Keys(t.effective)) }

// conclude returns the recipients that are configured, or added by one that is among them, and not removed.
func (t *trust) conclude() map[seal.Recipient]bool {
	effective := map[seal.Recipient]bool{}
	for recipient := range t.configured {
		if _, gone := t.removed[recipient]; !gone {
			effective[recipient] = true
		}
	}
	for before := -1; before != len(effective); {
		before = len(effective)
		for recipient, signers := range t.added {
			if _, gone := t.removed[recipient]; gone || effective[recipient] {
				continue
			}
			for signer := range signers {
				if effective[signer] {
					effective[recipient] = true
				}
			}
		}
	}
	return effective
}

// learn returns the trust with what the store says now: all values below recipient/. It also returns what is refused.
func (t *trust) learn(values []state.Versioned) (*trust, []error) {
	next := t.clone()
	rest, problems := t.readAll(values)
	for again := true; again; { // an addition may make the signer of another one trusted
		again = false
		rest = slices.DeleteFunc(rest, func(s statement) bool {
			if s.State != isAdded || !next.effective[s.by] || next.removed[s.Recipient].State != "" {
				return false
			}
			if err := next.keep(s); err != nil {
				problems = append(problems, err)
			} else {
				again = true
			}
			return true
		})
		next.effective = next.conclude()
	}
	// Who signs a removal is judged by the trust before all removals of this look: of two that remove each other, both leave.
	before := next.effective
	for _, s := range rest {
		_, gone := next.removed[s.Recipient]
		switch {
		case gone:
		case !before[s.by]:
			problems = append(problems, t.stranger(s))
		default:
			if err := next.keep(s); err != nil {
				problems = append(problems, err)
			}
		}
	}
	next.effective = next.conclude()
	return next, problems
}

// stranger is the refusal of a statement of one who is not trusted.
func (t *trust) stranger(s statement) error {
	why := "which this host does not trust"
	if _, gone := t.removed[s.by]; gone {
		why = "which was removed from the fleet"
	}
	return refused(Forged, recipientKey(s.Recipient), "%.70q has signed that it is %s, %s", string(s.by), s.State, why)
}

// readAll reads the statements that this host has not accepted yet, without their signatures: most values of a flood have signers that nobody
// trusts.
func (t *trust) readAll(values []state.Versioned) (found []statement, problems []error) {
	for _, value := range values {
		s, err := t.read(value.Key, value.Value)
		switch {
		case err != nil:
			problems = append(problems, err)
		case s.State == isRemoved || t.added[s.Recipient][s.by].State == "":
			found = append(found, s)
		}
	}
	return found, problems
}

// read reads a statement of the place key. Its signature is not verified yet.
func (t *trust) read(key string, value []byte) (statement, error) {
	e, err := parse(value, key)
	if err != nil {
		return statement{}, err
	}
	var s statement
	if err := decode(e.Payload, key, &s); err != nil {
		return statement{}, err
	}
	s.by, s.value = e.Signer, value
	if s.Fleet != t.fleet || recipientKey(s.Recipient) != key {
		return statement{}, refused(Swapped, key, "it is about %.70q in the fleet %.80q", string(s.Recipient), s.Fleet)
	}
	if s.State != isAdded && s.State != isRemoved {
		return statement{}, refused(Truncated, key, "its state %.20q is neither added nor removed", s.State)
	}
	return s, nil
}

// keep verifies a statement and remembers it.
func (t *trust) keep(s statement) error {
	key := recipientKey(s.Recipient)
	if err := s.verify(); err != nil {
		return err
	}
	switch {
	case s.State == isRemoved && len(t.removed) >= maxRemoved, s.State == isAdded && len(t.added) >= maxAdded && t.added[s.Recipient] == nil:
		return refused(Forged, key, "there are more statements than a fleet has hosts")
	case s.State == isRemoved:
		t.removed[s.Recipient] = s
	default:
		if t.added[s.Recipient] == nil {
			t.added[s.Recipient] = map[seal.Recipient]statement{}
		}
		t.added[s.Recipient][s.by] = s
	}
	return nil
}

// verify checks the signature, and that what it is about is a recipient.
func (s statement) verify() error {
	key := recipientKey(s.Recipient)
	e, err := parse(s.value, key)
	if err != nil {
		return err
	}
	if err := e.payload(key, kindRecipient, &statement{}); err != nil {
		return err
	}
	if _, err := seal.ParseRecipient(string(s.Recipient)); err != nil {
		return refused(Forged, key, "%v", err)
	}
	return nil
}

func (t *trust) clone() *trust {
	next := *t
	next.removed, next.added = maps.Clone(t.removed), map[seal.Recipient]map[seal.Recipient]statement{}
	for recipient, signers := range t.added {
		next.added[recipient] = maps.Clone(signers)
	}
	return &next
}

// state signs a statement for the store.
func (t *trust) say(identity *seal.Identity, r seal.Recipient, host, is string, at time.Time) (state.Versioned, error) {
	value, err := wrap(identity, kindRecipient, statement{Version: version, Fleet: t.fleet, Recipient: r, Host: host, State: is, At: at.UTC()})
	return state.Versioned{Key: recipientKey(r), Value: value}, err
}

// add returns the statement that a recipient belongs to the fleet.
func (t *trust) add(identity *seal.Identity, r seal.Recipient, host string, at time.Time) (state.Versioned, error) {
	if _, err := seal.ParseRecipient(string(r)); err != nil {
		return state.Versioned{}, err
	}
	if s, gone := t.removed[r]; gone {
		return state.Versioned{}, refused(Replayed, recipientKey(r), "it was removed at %s, for good; the host needs a new identity (age-keygen)",
			s.At.Format(time.RFC3339))
	}
	return t.say(identity, r, host, isAdded, at)
}

// remove returns the statements that a recipient is removed, and those that sign again what it has signed: its removals, and its additions of
// recipients in keep.
func (t *trust) remove(identity *seal.Identity, r seal.Recipient, host string, keep []seal.Recipient, at time.Time) ([]state.Versioned, error) {
	first, err := t.say(identity, r, host, isRemoved, at)
	statements, problem := []state.Versioned{first}, err
	again := func(s statement) {
		value, err := t.say(identity, s.Recipient, s.Host, s.State, s.At)
		if err != nil {
			problem = err
		}
		statements = append(statements, value)
	}
	for _, other := range slices.Sorted(maps.Keys(t.removed)) {
		if s := t.removed[other]; s.by == r {
			again(s)
		}
	}
	for _, other := range slices.Sorted(maps.Keys(t.added)) {
		if s, signed := t.added[other][r]; signed && slices.Contains(keep, other) && t.effective[other] {
			again(s)
		}
	}
	return statements, problem
}

// vouched returns the recipients that leave together with one, because nobody else who stays has added them, sorted.
func (t *trust) vouched(r seal.Recipient) []seal.Recipient {
	without := t.clone()
	without.removed[r] = statement{State: isRemoved}
	left := without.conclude()
	return slices.DeleteFunc(t.recipients(), func(other seal.Recipient) bool { return other == r || left[other] })
}

// missing returns what must be written to the store again: removals that this host remembers and that the store does not have by a signer
// who is trusted, so that hosts which join learn them; and additions that the store has lost.
func (t *trust) missing(identity *seal.Identity, values []state.Versioned) (lost []state.Versioned, err error) {
	there := map[string]statement{}
	for _, value := range values {
		if s, err := t.read(value.Key, value.Value); err == nil {
			there[value.Key] = s
		}
	}
	put := func(s statement) {
		if !t.effective[s.by] { // a host that joins would not believe it
			fresh, problem := t.say(identity, s.Recipient, s.Host, s.State, s.At)
			if problem != nil {
				err = problem
				return
			}
			s.value = fresh.Value
		}
		lost = append(lost, state.Versioned{Key: recipientKey(s.Recipient), Value: s.value})
	}
	for _, recipient := range slices.SortedFunc(maps.Keys(t.removed), compare) {
		if s := there[recipientKey(recipient)]; s.State != isRemoved || !t.effective[s.by] {
			put(t.removed[recipient])
		}
	}
	for _, recipient := range slices.SortedFunc(maps.Keys(t.added), compare) {
		if s := there[recipientKey(recipient)]; t.effective[recipient] && (s.State != isAdded || !t.effective[s.by]) {
			put(t.best(recipient))
		}
	}
	return lost, err
}

// best is an addition of a recipient by one who is trusted.
func (t *trust) best(r seal.Recipient) statement {
	for _, signer := range slices.SortedFunc(maps.Keys(t.added[r]), compare) {
		if t.effective[signer] {
			return t.added[r][signer]
		}
	}
	return statement{Recipient: r, State: isAdded}
}

func compare(a, b seal.Recipient) int { return strings.Compare(string(a), string(b)) }

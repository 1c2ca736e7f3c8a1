package fleet

import (
	"maps"
	"slices"
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

// newTrust is the trust of a host that knows its configuration only. own is its recipient; "" as long as that is not known.
func newTrust(fleet string, own seal.Recipient, configured []seal.Recipient) *trust {
	t := &trust{
		fleet: fleet, configured: map[seal.Recipient]bool{},
		added: map[seal.Recipient]map[seal.Recipient]statement{}, removed: map[seal.Recipient]statement{},
	}
	for _, recipient := range configured {
		t.configured[recipient] = true
	}
	t.effective = t.conclude()
	if own != "" {
		t = t.of(own)
	}
	return t
}

// trusts reports whether what a recipient signs counts.
func (t *trust) trusts(r seal.Recipient) bool { return t.effective[r] }

// recipients returns to whom secrets are encrypted, sorted.
func (t *trust) recipients() []seal.Recipient { return sorted(t.effective) }

// conclude returns the recipients that are configured, or added by one that is among them, and not removed.
func (t *trust) conclude() map[seal.Recipient]bool {
	effective := map[seal.Recipient]bool{}
	for recipient := range t.configured {
		if !t.isRemoved(recipient) {
			effective[recipient] = true
		}
	}
	for before := -1; before != len(effective); {
		before = len(effective)
		for recipient, signers := range t.added {
			if t.isRemoved(recipient) || effective[recipient] {
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

// learn returns the trust with what the store says now: all values below recipient/. It also returns what is refused, at most [mostProblems].
func (t *trust) learn(values []state.Versioned) (*trust, []error) {
	next := t.clone()
	found, refusals := next.readAll(values)
	found = next.learnAdded(found, &refusals)
	// Who signs a removal is judged by the trust before all removals of this look: of two that remove each other, both leave.
	before := next.effective
	for _, s := range found {
		switch {
		case refusals.forged > mostForged:
		case next.isRemoved(s.Recipient) && s.State == isRemoved:
		case next.isRemoved(s.Recipient):
			refusals.add(refused(Replayed, recipientKey(s.Recipient), "it says that a host is added which was removed for good"))
		case !before[s.by]:
			refusals.add(next.stranger(s))
		default:
			refusals.kept(next.keep(s))
		}
	}
	next.effective = next.conclude()
	return next, refusals.errors
}

// learnAdded keeps the additions whose signers are trusted, and returns the other statements. One may make the signer of another trusted.
func (t *trust) learnAdded(found []statement, refusals *problems) []statement {
	for again := true; again; {
		again = false
		found = slices.DeleteFunc(found, func(s statement) bool {
			if s.State != isAdded || !t.effective[s.by] || t.isRemoved(s.Recipient) || refusals.forged > mostForged {
				return false
			}
			err := t.keep(s)
			refusals.kept(err)
			again = again || err == nil
			return true
		})
		t.effective = t.conclude()
	}
	return found
}

// problems are the first refusals of a look.
type problems struct {
	errors []error
	forged int // statements in the name of one who is trusted
}

const (
	mostProblems = 50   // that one look returns
	mostForged   = 2000 // after which a look accepts nothing more: a stranger can write very many, and each signature costs 0.1 ms
)

func (p *problems) add(err error) {
	if err != nil && len(p.errors) < mostProblems {
		p.errors = append(p.errors, err)
	}
}

// kept adds what [trust.keep] returned.
func (p *problems) kept(err error) {
	p.add(err)
	if err != nil {
		p.forged++
	}
}

// stranger is the refusal of a statement of one who is not trusted.
func (t *trust) stranger(s statement) error {
	why := "which this host does not trust"
	if t.isRemoved(s.by) {
		why = "which was removed from the fleet"
	}
	return refused(Forged, recipientKey(s.Recipient), "%.70q has signed that it is %s, %s", string(s.by), s.State, why)
}

// readAll reads the statements that this host has not accepted yet, without their signatures: most values of a flood have signers that nobody
// trusts.
func (t *trust) readAll(values []state.Versioned) (found []statement, refusals problems) {
	for _, value := range values {
		s, err := t.read(value.Key, value.Value)
		switch {
		case err != nil:
			refusals.add(err)
		case s.State == isRemoved || t.isRemoved(s.Recipient) || t.added[s.Recipient][s.by].State == "":
			found = append(found, s)
		}
	}
	return found, refusals
}

func (t *trust) isRemoved(r seal.Recipient) bool { return t.removed[r].State != "" }

// read reads a statement of the place key; "" is any. Its signature is not verified yet.
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
	if s.Fleet != t.fleet || key != "" && recipientKey(s.Recipient) != key {
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

package fleet

import (
	"bytes"
	"slices"
	"time"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// say signs a statement for the store.
func (t *trust) say(identity *seal.Identity, r seal.Recipient, host, is string, at time.Time) (state.Versioned, error) {
	value, err := wrap(identity, kindRecipient, statement{Version: version, Fleet: t.fleet, Recipient: r, Host: host, State: is, At: at.UTC()})
	return state.Versioned{Key: recipientKey(r), Value: value}, err
}

// add returns the statement that a recipient belongs to the fleet.
func (t *trust) add(identity *seal.Identity, r seal.Recipient, host string, at time.Time) (state.Versioned, error) {
	if _, err := seal.ParseRecipient(string(r)); err != nil {
		return state.Versioned{}, err
	}
	if s := t.removed[r]; t.isRemoved(r) {
		return state.Versioned{}, refused(Replayed, recipientKey(r), "it was removed at %s, for good; the host needs a new identity (age-keygen)",
			s.At.Format(time.RFC3339))
	}
	return t.say(identity, r, host, isAdded, at)
}

// remove returns what is to be written to remove a recipient, in this order, so that who is interrupted removes nobody else: its additions of
// recipients in keep, signed again; the removals by it and by those that leave with it, signed again; and last, that it is removed.
func (t *trust) remove(identity *seal.Identity, r seal.Recipient, host string, keep []seal.Recipient, at time.Time) ([]state.Versioned, error) {
	after := t.clone()
	var all []statement
	for _, other := range sorted(t.added) {
		if s, signed := t.added[other][r]; signed && slices.Contains(keep, other) && t.effective[other] {
			all = append(all, s)
			after.added[other][identity.Recipient()] = s
		}
	}
	gone := statement{Recipient: r, Host: host, State: isRemoved, At: at}
	after.removed[r] = gone
	after.effective = after.conclude()
	for _, other := range sorted(t.removed) {
		if s := t.removed[other]; other != r && !after.effective[s.by] {
			all = append(all, s)
		}
	}
	all = append(all, gone)
	values := make([]state.Versioned, len(all))
	for i, s := range all {
		value, err := t.say(identity, s.Recipient, s.Host, s.State, s.At)
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return values, nil
}

// vouched returns the recipients that leave together with one, because nobody else who stays has added them, sorted.
func (t *trust) vouched(r seal.Recipient) []seal.Recipient {
	without := t.clone()
	without.removed[r] = statement{State: isRemoved}
	left := without.conclude()
	return slices.DeleteFunc(t.recipients(), func(other seal.Recipient) bool { return other == r || left[other] })
}

// missing returns what must be written to the store again, where it does not have it by a signer who is trusted: removals, so that hosts which
// join learn them, and additions that count. values is what the store has below recipient/.
//
// A host does not sign again by itself what one who was removed has signed: it may have been deceived before it knew.
func (t *trust) missing(values []state.Versioned) []state.Versioned {
	there := map[seal.Recipient]string{}
	for _, value := range values {
		if s, err := t.read(value.Key, value.Value); err == nil && t.effective[s.by] && t.holds(s) {
			there[s.Recipient] = s.State
		}
	}
	var lost []state.Versioned
	for _, s := range t.standing() {
		if there[s.Recipient] != s.State {
			lost = append(lost, state.Versioned{Key: recipientKey(s.Recipient), Value: s.value})
		}
	}
	return lost
}

// holds reports whether a statement is one that this host has verified, or verifies.
func (t *trust) holds(s statement) bool {
	return bytes.Equal(s.value, t.removed[s.Recipient].value) || bytes.Equal(s.value, t.added[s.Recipient][s.by].value) || s.verify() == nil
}

// standing returns the statements of signers who are trusted that the store should have: one for each recipient that was removed, or is
// trusted because it was added.
func (t *trust) standing() []statement {
	var all []statement
	for _, recipient := range sorted(t.removed) {
		if s := t.removed[recipient]; t.effective[s.by] {
			all = append(all, s)
		}
	}
	for _, recipient := range sorted(t.added) {
		signers := slices.DeleteFunc(sorted(t.added[recipient]), func(signer seal.Recipient) bool { return !t.effective[signer] })
		if len(signers) > 0 && !t.isRemoved(recipient) {
			all = append(all, t.added[recipient][signers[0]])
		}
	}
	return all
}

package fleet

import "fmt"

// Refused is a value of the store that this host does not believe. It changes nothing: the host goes on with what it has.
type Refused struct {
	ID   string // one of the words below
	Key  string // of the value in the store
	Why  string // one clause, for people; foreign text in it is quoted and short
	Next string // what to do
}

// The words for why a value is refused.
const (
	Forged         = "forged"            // nobody whom this host trusts has written it, or what it says is not so
	Replayed       = "replayed"          // it is older than what this host has seen in its place
	Swapped        = "swapped"           // it was written for another place, host or fleet
	Truncated      = "truncated"         // it is damaged, or no value of mxcert at all
	LaterVersion   = "later-version"     // a later mxcert wrote it
	NotForThisHost = "not-for-this-host" // it is encrypted to others only
	NoLease        = "no-lease"          // it is in the place of a lock, and no lease of a host ends it
)

// Error says what is refused, why, and what to do.
func (r *Refused) Error() string {
	key := r.Key
	if quoted := fmt.Sprintf("%.200q", key); quoted != `"`+key+`"` { // strangers choose keys
		key = quoted
	}
	return fmt.Sprintf("%s in the store of the fleet is refused (%s): %s; %s", key, r.ID, r.Why, r.Next)
}

// refused makes a refusal with the next step that fits its word.
func refused(id, key, format string, args ...any) *Refused {
	return &Refused{ID: id, Key: key, Why: fmt.Sprintf(format, args...), Next: nextStep(id)}
}

// nextStep says what a person can do.
func nextStep(id string) string {
	switch id {
	case LaterVersion:
		return "install this version of mxcert on this host as well"
	case NotForThisHost:
		return "run 'mxcert fleet recipients add' with this host's recipient on another host"
	case Replayed:
		return "if the store was restored from a backup, hosts write the newest value again from their disks; if not, find out who can write to it"
	}
	return "find out who can write to the store; hosts write the value again from their disks"
}

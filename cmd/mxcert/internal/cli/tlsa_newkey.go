package cli

import (
	"fmt"
	"slices"

	"mxcert/deploy/dane"
)

// newKey says what has to be done before the key can change.
func (l *tlsaLook) newKey(records []shownRecord) string {
	isNext := func(r shownRecord) bool { return r.Role == "next" }
	missing := func(r shownRecord) bool { return isNext(r) && !r.Present }
	name := l.Want.Name
	switch {
	case l.Mode == dane.Publish:
		return fmt.Sprintf("mxcert publishes the record of the next key itself; `mxcert tlsa roll %s` changes the key", name)
	case rolls(l.Facts.Settings.Mode) && !slices.ContainsFunc(records, isNext):
		return fmt.Sprintf("there is no next key now; the next pass that finds nothing to wait for makes one (`mxcert tlsa check %s` shows what is waited for)", name)
	case rolls(l.Facts.Settings.Mode) && !slices.ContainsFunc(records, missing):
		return fmt.Sprintf("every server gives the records of the next key: `mxcert tlsa roll %s` changes the key, as soon as senders have them", name)
	case rolls(l.Facts.Settings.Mode):
		return fmt.Sprintf("publish the records of the next key beside the others; `mxcert tlsa roll %s` then changes the key", name)
	case l.State.Leaving(l.settings()), l.Mode == dane.Off && l.State.Effective(l.settings()) != dane.Off:
		return fmt.Sprintf("mxcert removes the records that it has added, and keeps the key until senders have forgotten them; `mxcert tlsa check %s` shows how far it is", name)
	case l.Mode == dane.Off:
		return fmt.Sprintf("with dane.mode off mxcert does not look at TLSA records: `mxcert renew %s --new-key` changes the key at once", name)
	case l.unchecked():
		return fmt.Sprintf("senders check no TLSA record now, so `mxcert tlsa roll %s` changes the key at once. With dane: {mode: gate} the next key is prepared in advance", name)
	}
	return fmt.Sprintf("with dane.mode check there is no next key: `mxcert tlsa roll %s` makes one, and this command then prints its record, which has to be published before the key changes. With dane: {mode: gate} that is prepared in advance", name)
}

// unchecked reports whether every look was answered and no sender can hold a record that it checks.
func (l *tlsaLook) unchecked() bool {
	for i, owner := range l.Facts.Owners {
		asks := func(c dane.Cached) bool { return c.Asks() }
		if v := l.Facts.Views[i]; v.Err != nil || v.Fault() != "" || l.State.Memory.Crowded(owner, l.settings()) || slices.ContainsFunc(l.State.Memory.Held(owner, l.settings()), asks) {
			return false
		}
	}
	return true
}

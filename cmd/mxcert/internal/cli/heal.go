package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"mxcert/acme/state"
	"mxcert/deploy"

	"mxcert/cmd/mxcert/internal/report"
)

const (
	// mostHeals is how often within an hour the daemon puts right what others have changed. Whoever changes it again after
	// that is a program, and each turn of a fight with it may cost mail.
	mostHeals = 3
	// healHour begins with the first of these.
	healHour = time.Hour
	// kindDrift is the kind of the error that ends them.
	kindDrift = "drift"
)

// heals reports whether what this pass changes is what somebody else has changed before. What a person asks for is none, and
// neither are the end of a deployment that was broken off, and a certificate that has not been in service yet, unless it is
// the change that has woken the pass.
func (p *pass) heals() bool {
	return p.options.daemon && !p.issued && !p.record.Applying && (p.options.woken || p.wasServed())
}

// wasServed reports whether all that is current was proven in service before.
func (p *pass) wasServed() bool {
	for i, key := range p.keys() {
		if slot := p.record.Slot(key); p.bundles[i] != nil && slot.Served != slot.Current {
			return false
		}
	}
	return true
}

// contention is the error that ends the healing for the rest of an hour; nil while there is none.
func (p *pass) contention(what string) *driftError {
	heals := p.recentHeals()
	if len(heals) < mostHeals {
		return nil
	}
	return &driftError{name: p.certificate.Name, what: what, count: len(heals), since: heals[0], until: untilHeal(heals)}
}

// untilHeal is when the daemon may heal again.
func untilHeal(heals []time.Time) time.Time {
	return heals[0].Add(healHour).UTC().Truncate(time.Second).Add(time.Second)
}

// recentHeals are those that count.
func (p *pass) recentHeals() []time.Time {
	if p.record.Heals.Fingerprint != p.fingerprint {
		return nil // the operator's edit may have ended the fight
	}
	return healsOfHour(p.record.Heals.At, time.Now())
}

// healsOfHour are those of the hour that is not over; heals of the future are of a clock that was ahead.
func healsOfHour(heals []time.Time, now time.Time) []time.Time {
	if len(heals) == 0 || now.After(untilHeal(heals)) || heals[0].After(now.Add(time.Minute)) {
		return nil
	}
	return heals
}

// mayHeal keeps the daemon from fighting.
func (p *pass) mayHeal(what string) error {
	if !p.heals() {
		return nil
	}
	if drift := p.contention(what); drift != nil {
		p.heldUntil = drift.until
		return drift
	}
	return nil
}

// healed counts one time.
func (p *pass) healed() {
	if p.heals() {
		p.record.Heals = state.Heals{At: append(p.recentHeals(), time.Now().UTC()), Fingerprint: p.fingerprint}
	}
}

// changesText says what changes where.
func changesText(changes []deploy.Change) string {
	var list []string
	for _, c := range changes {
		list = append(list, fmt.Sprintf("%s (%s)", c.Path, c.Why))
	}
	return strings.Join(list, ", ")
}

// driftError says that others go on changing what the daemon puts right.
type driftError struct {
	name, what   string
	count        int
	since, until time.Time
}

func (e *driftError) Error() string {
	return fmt.Sprintf("something else goes on changing what mxcert has put right %d times since %s: %s; the daemon leaves it alone until %s",
		e.count, report.Second(e.since), e.what, report.Second(e.until))
}

// Kind is "drift".
func (e *driftError) Kind() string { return kindDrift }

// Hint says how to end it.
func (e *driftError) Hint() string {
	hint := "find the program that does it (another ACME client, configuration management, a package's script) and stop it; then: mxcert deploy " + e.name
	if path, _, ok := strings.Cut(e.what, " ("); ok && filepath.IsAbs(path) {
		hint += fmt.Sprintf(" (auditctl -w %s -p wa shows who writes there)", filepath.Dir(path))
	}
	return hint
}

// changedMeanwhile is why a deployment failed whose files did not stay what they were made.
type changedMeanwhile struct {
	cause error
	files []string
}

// meanwhile looks for such files; left is how the deployment left them.
func (p *pass) meanwhile(left map[string]string, cause error) error {
	if files := differing(left); len(files) > 0 {
		return &changedMeanwhile{cause: cause, files: files}
	}
	return cause
}

func (e *changedMeanwhile) Error() string {
	return fmt.Sprintf("%v; something else has changed %s since mxcert wrote it", e.cause, strings.Join(e.files, " and "))
}

func (e *changedMeanwhile) Unwrap() error { return e.cause }

// Hint says how to end it.
func (e *changedMeanwhile) Hint() string {
	return fmt.Sprintf("find the program that does it, and stop it (auditctl -w %s -p wa shows who writes there)", filepath.Dir(e.files[0]))
}

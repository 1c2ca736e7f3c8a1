package pass

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/hooks/watch"
)

const (
	// MaxRepairs is how often within an hour the daemon repairs what something else has changed. If it is changed again after that, a
	// program is doing it, and every round of a fight with that program may cost mail.
	MaxRepairs = 3
	// repairHour is the hour that the repairs are counted in. It starts with the first repair.
	repairHour = time.Hour
	// kindDrift is the kind of the error that stops the repairs.
	kindDrift = "drift"
)

// repairs reports whether this pass would undo a change that something else has made. It does not count as a repair if a person asked for
// the pass, if the pass issued a certificate, or if it finishes an interrupted deployment. Nor does it count if the certificate has not
// been in service yet, unless a change of the files started the pass.
func (p *pass) repairs() bool {
	return p.options.Daemon && !p.renewed() && !p.have.Record.Applying && (p.options.Woken || p.have.WasServed())
}

// mayRepair keeps the daemon from fighting another program over the files.
func (p *pass) mayRepair(what string) error {
	if !p.repairs() {
		return nil
	}
	if drift := contention(p.have.Record.Heals, p.want.Name, p.want.Fingerprint(), what); drift != nil {
		p.heldUntil = drift.until
		return drift
	}
	return nil
}

// repaired counts one repair.
func (p *pass) repaired() {
	if p.repairs() {
		p.have.Record.Heals = oneMore(p.have.Record.Heals, p.want.Fingerprint())
	}
}

// oneMore adds a repair.
func oneMore(heals state.Heals, fingerprint string) state.Heals {
	return state.Heals{At: append(recentRepairs(heals, fingerprint), time.Now().UTC()), Fingerprint: fingerprint}
}

// contention returns the error that stops the repairs for the rest of an hour, or nil while there were only a few.
func contention(heals state.Heals, name, fingerprint, what string) *driftError {
	repairs := recentRepairs(heals, fingerprint)
	if len(repairs) < MaxRepairs {
		return nil
	}
	return &driftError{name: name, what: what, count: len(repairs), since: repairs[0], until: untilRepair(repairs)}
}

// untilRepair returns when the daemon may repair again.
func untilRepair(repairs []time.Time) time.Time {
	return repairs[0].Add(repairHour).UTC().Truncate(time.Second).Add(time.Second)
}

// recentRepairs returns the repairs that count.
func recentRepairs(heals state.Heals, fingerprint string) []time.Time {
	if heals.Fingerprint != fingerprint {
		return nil // the operator's edit may have ended the fight
	}
	return repairsOfHour(heals.At, time.Now())
}

// repairsOfHour returns the repairs of the current hour. It ignores repairs in the future: the clock was ahead when they were recorded.
func repairsOfHour(repairs []time.Time, now time.Time) []time.Time {
	if len(repairs) == 0 || now.After(untilRepair(repairs)) || repairs[0].After(now.Add(time.Minute)) {
		return nil
	}
	return repairs
}

// changesText says which files change, and how.
func changesText(changes []deploy.Change) string {
	var list []string
	for _, c := range changes {
		list = append(list, fmt.Sprintf("%s (%s)", c.Path, c.Why))
	}
	return strings.Join(list, ", ")
}

// driftError says that something else keeps changing what the daemon repairs.
type driftError struct {
	name, what   string
	count        int
	since, until time.Time
}

func (e *driftError) Error() string {
	return fmt.Sprintf("something else keeps changing what mxcert has repaired %d times since %s: %s; the daemon leaves it alone until %s",
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

// changedMeanwhile says why a deployment failed: something else changed its files after mxcert wrote them.
type changedMeanwhile struct {
	cause error
	files []string
}

// changedSince adds the files that changed since the deployment to the cause; left holds their fingerprints as the deployment left them.
func changedSince(left map[string]string, cause error) error {
	if files := watch.Differing(left); len(files) > 0 {
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

// prints returns the fingerprints of the files that a server may read now.
func (p *pass) prints() map[string]string {
	return watch.Fingerprints(deployedFiles(p.want, p.have.Bundles))
}

// deployedFiles lists the files that a server may read for bundles, in the order of the keys.
func deployedFiles(want wanted.Certificate, bundles []*bundle.Bundle) (paths []string) {
	for _, job := range want.Jobs(bundles) {
		paths = append(paths, job.Target.Files(job.Bundle)...)
	}
	return paths
}

// settle records how the files of the certificate are now. If they differ later, something else has changed them.
func (p *pass) settle() {
	if p.Drift != nil {
		p.Drift.Left(p.want.Name, p.prints())
	}
}

// write changes files, and reports to the drift watch that this pass did it.
func (p *pass) write(change func() error) error {
	if p.Drift == nil {
		return change()
	}
	before := p.prints()
	err := change()
	p.Drift.Wrote(p.want.Name, before, p.prints())
	return err
}

// compareAgain finds what others have changed since this pass wrote the files. The next pass then deals with it.
func (p *pass) compareAgain(ctx context.Context) {
	if p.Drift == nil {
		return
	}
	prints := p.prints()
	p.Drift.Left(p.want.Name, prints)
	plan, err := p.Helper.Plan(ctx, p.want, p.have.Bundles, p.known(), p.say)
	if err != nil {
		return // the hourly pass reports it, with its reason
	}
	defer helper.Close(plan)
	for _, change := range plan.Summary().Changes {
		prints[change.Path] = "not what was written"
	}
	p.Drift.Left(p.want.Name, prints)
}

package helper

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/hooks/unit"
)

// A certificate may have places of root and places of the service. The helper writes the first. It leaves to the service everything below a
// directory that the service's user can write, because there that user would decide which file root replaces. The helper alone draws the
// line, by its own configuration; its answers name what it leaves.

// divide returns the part of a certificate that a helper of root may write, and the paths that it leaves to the service. All files of one
// entry of `deploy` must be on one side.
func divide(want wanted.Certificate, service string) (own wanted.Certificate, left []string, err error) {
	own, own.Places = want, nil
	for _, place := range want.Places {
		var all, writable []string
		targets := slices.Clone(place.Targets)
		for i, t := range targets {
			theirs, err := t.WritableBy(service)
			if err != nil {
				return own, nil, err
			}
			all, writable = append(all, t.Places(nil)...), append(writable, theirs...)
			targets[i].Distrusted = service
		}
		switch len(writable) {
		case 0:
			place.Targets = targets
			own.Places = append(own.Places, place)
		case len(all):
			left = append(left, all...)
		default:
			return own, nil, torn(all, writable, service)
		}
	}
	return own, left, nil
}

// torn says that nobody can write all files of one entry of `deploy`.
func torn(all, writable []string, service string) error {
	roots := all[slices.IndexFunc(all, func(path string) bool { return !slices.Contains(writable, path) })]
	return &Error{KindText: "refused",
		Message: fmt.Sprintf("cannot write %s and %s for one entry of `deploy`: the user %s can write below the directory of the first, so root does not write there, and the service cannot write the second",
			writable[0], roots, service),
		NextStep: fmt.Sprintf("configure all paths of the entry in directories of root, or all in directories that the user %s can write, such as /var/lib/mxcert-keys", service)}
}

// rest returns the part of a certificate that the helper has left to this process.
func (a installAnswer) rest(want wanted.Certificate) wanted.Certificate {
	want.Places = slices.DeleteFunc(slices.Clone(want.Places), func(place wanted.Place) bool {
		return !slices.ContainsFunc(place.Targets, func(t deploy.Target) bool {
			return slices.ContainsFunc(t.Places(nil), func(path string) bool { return slices.Contains(a.Left, path) })
		})
	})
	return want
}

// lookHere compares the bundles with the files that the helper has left to this process.
func lookHere(rest wanted.Certificate, bundles []*bundle.Bundle, known Known) (*deploy.Plan, error) {
	plan, err := Look(rest, bundles, known)
	return plan, explained(err)
}

// explained says why this process needs the rights to files that the helper has left to it.
func explained(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	path := "the files"
	if e, ok := errors.AsType[*deploy.Error](err); ok {
		path = e.Path
	}
	return &Error{KindText: report.KindOf(err),
		Message:  fmt.Sprintf("%v; the user %s can write below this directory, so the helper that runs as root leaves it to that user", err, unit.ServiceUser),
		NextStep: fmt.Sprintf("let the user %s write there: remove `owner` and `group` from the deploy section, and chown %[1]s %s; or configure a path in a directory of root", unit.ServiceUser, path)}
}

// part is a plan that is one of two.
type part interface {
	Plan
	Undo() error
}

// jointPlan is one plan in two parts: one that the helper has made and keeps, and one of this process. All files of a target are in one
// part, so a certificate and its key always match.
type jointPlan struct {
	there, here part
	summary     deploy.Summary
}

// Summary says what both parts would change.
func (j *jointPlan) Summary() deploy.Summary { return j.summary }

// Apply applies both parts. If one fails, the files of both are as they were. The helper's part comes first, because more can speak against
// it: the helper has the mail server try the files.
func (j *jointPlan) Apply(keep func(path string, content []byte) error) error {
	if err := j.there.Apply(keep); err != nil {
		return err
	}
	if err := j.here.Apply(keep); err != nil {
		return errors.Join(err, j.there.Undo())
	}
	return nil
}

// ApplyNew writes the files of both parts that replace nothing. If one part fails, what the other has written stays: no server reads it yet.
func (j *jointPlan) ApplyNew() (paths []string, err error) {
	there, err := j.there.ApplyNew()
	if err != nil {
		return there, err
	}
	here, err := j.here.ApplyNew()
	return append(there, here...), err
}

// Revert reverts both parts. If one cannot go back, the other still does: each target holds one certificate and its key.
func (j *jointPlan) Revert() error { return errors.Join(j.here.Revert(), j.there.Revert()) }

// Touch makes the servers look again at the files of both parts.
func (j *jointPlan) Touch() error { return errors.Join(j.here.Touch(), j.there.Touch()) }

// Accesses returns the access to the files of this process. The helper remembers that to its own.
func (j *jointPlan) Accesses() map[string]deploy.Access { return accesses(j.here) }

// Close ends the helper.
func (j *jointPlan) Close() error {
	Close(j.there)
	return nil
}

// accesses returns the present access to the files that this process has written for a plan.
func accesses(plan Plan) map[string]deploy.Access {
	if local, ok := plan.(interface {
		Accesses() map[string]deploy.Access
	}); ok {
		return local.Accesses()
	}
	return nil
}

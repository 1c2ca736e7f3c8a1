package discover

import (
	"context"
	"errors"
	"os"

	"mxcert/deploy"
)

// Inspect asks the mail servers of the targets, before mxcert orders or writes anything. It asks whether they read what mxcert would write,
// for clients that ask for one of the names at one of the endpoints, and whether their users may read it. If sound is set, it also asks whether their configuration
// is valid, so that they could be reloaded. remembered is the same as for [deploy.Make]. Inspect leaves out targets marked as unchecked,
// and servers whose programs are not on this host.
//
// If sound is not set, files that do not exist are no objection: they have to exist before a server is told to read them.
//
// The error joins the objections, each an *Error of this package or of deploy. Without root's rights the answers are not certain.
// Objections then become notes, and Inspect ignores a program that a sandbox keeps from answering.
func Inspect(ctx context.Context, w Wanted, remembered map[string]deploy.Access, sound bool) (notes []string, err error) {
	i := &inspection{want: w, remembered: remembered, sound: sound, certain: os.Geteuid() == 0}
	i.inspect(ctx)
	return i.notes, errors.Join(i.problems...)
}

// checkedOf lists the targets of a kind that are not marked as unchecked.
func checkedOf(kind string, targets []deploy.Target) (checked []deploy.Target) {
	for _, t := range targets {
		if t.Kind == kind && !t.Unchecked {
			checked = append(checked, t)
		}
	}
	return checked
}

// inspection is one call of Inspect.
type inspection struct {
	want       Wanted
	remembered map[string]deploy.Access
	sound      bool
	certain    bool // this process is root

	notes    []string
	problems []error
}

// inspect asks each server that has files among the targets.
func (i *inspection) inspect(ctx context.Context) {
	for _, kind := range []string{kindExim, kindPostfix, kindDovecot} {
		if checked := checkedOf(kind, i.want.Targets); len(checked) > 0 && i.inOrder(ctx, kind, checked[0].Unit) {
			i.compare(ctx, kind, checked)
		}
	}
}

func (i *inspection) note(err error) { i.notes = append(i.notes, err.Error()) }

// object records an objection: as an error if it is certain, otherwise as a note.
func (i *inspection) object(err error) {
	switch {
	case err == nil:
	case i.certain:
		i.problems = append(i.problems, err)
	default:
		i.note(err)
	}
}

// inOrder asks a server whether its configuration is valid. If it is not, what the server reads does not matter yet.
func (i *inspection) inOrder(ctx context.Context, kind, unit string) bool {
	if !i.certain {
		return true
	}
	err := Sound(ctx, kind)
	objection, ok := errors.AsType[*Error](err)
	switch {
	case err == nil || errors.Is(err, ErrAbsent):
		return true
	case !ok || objection.Kind() != kindBroken:
		i.note(err)
		return true
	}
	if unit != "" {
		objection.text = unit + ": " + objection.text
	}
	if i.sound {
		i.object(objection)
	} else {
		i.note(objection)
	}
	return false
}

// compare asks a server which files it reads, and whether its user may read them.
func (i *inspection) compare(ctx context.Context, kind string, targets []deploy.Target) {
	server, err := Look(ctx, kind, Wanted{Targets: targets, Names: i.want.Names, Endpoints: i.want.Endpoints})
	switch {
	case errors.Is(err, ErrAbsent), err != nil && !i.certain:
		return
	case err != nil:
		i.note(err)
		return
	}
	notes, err := server.Compare(targets, i.want.Names)
	i.notes = append(append(i.notes, server.Notes...), notes...)
	if e, ok := errors.AsType[*Error](err); ok && e.unwritten && !i.sound {
		i.notes = append(i.notes, e.text+" yet; mxcert writes the files first, and then says what to change")
	} else {
		i.object(err)
	}
	if server.User != "" {
		i.object(deploy.Readable(server.User, targets, i.remembered))
	}
}

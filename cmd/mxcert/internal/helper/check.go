package helper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// checked are the mail servers that can be asked what they read.
var checked = []string{"exim", "postfix", "dovecot"} //nolint:gochecknoglobals // a constant table

// tryPatience bounds the handshakes with candidates.
const tryPatience = 20 * time.Second

// checkHere finds out whether this process can write the files, and whether they are those that the mail servers read; sound
// asks whether the servers' configuration is in order, too. Notes are for the operator.
func checkHere(ctx context.Context, want wanted.Certificate, known Known, sound bool) (notes []string, err error) {
	targets := want.Targets()
	for i := range targets {
		targets[i].Remembered = known
	}
	if err := deploy.Check(targets); err != nil {
		return nil, err
	}
	i := &inspection{want: want}
	var problems []error
	for _, kind := range checked {
		if slices.ContainsFunc(want.Places, func(p wanted.Place) bool { return p.Kind == kind && !p.Unchecked }) {
			problems = append(problems, i.server(ctx, kind, sound))
		}
	}
	return i.notes, errors.Join(problems...)
}

// inspection asks mail servers, before anything is ordered or written. Only the answers that root gets are certain: for others,
// an objection is a note.
type inspection struct {
	want  wanted.Certificate
	notes []string
}

func (i *inspection) note(err error) { i.notes = append(i.notes, err.Error()) }

func (i *inspection) server(ctx context.Context, kind string, sound bool) error {
	if err := i.sound(ctx, kind); err != nil && sound {
		return err
	} else if err != nil {
		i.note(err)
		return nil
	}
	server, err := discover.Look(ctx, kind, i.want.ClientNames())
	switch {
	case errors.Is(err, discover.ErrAbsent):
		return nil
	case err != nil:
		if os.Geteuid() == 0 { // a sandboxed service cannot ask; there is nothing to repair
			i.note(err)
		}
		return nil
	}
	i.notes = append(i.notes, server.Notes...)
	return errors.Join(i.compare(server, kind), i.readable(server, kind))
}

// sound asks a server whether its configuration is in order. Only root's answer counts.
func (i *inspection) sound(ctx context.Context, kind string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	err := discover.Sound(ctx, kind)
	if _, unsound := errors.AsType[*discover.Unsound](err); unsound {
		return &aboutUnit{err: err, unit: i.unit(kind)}
	}
	if err != nil && !errors.Is(err, discover.ErrAbsent) {
		i.note(err)
	}
	return nil
}

func (i *inspection) unit(kind string) string {
	for _, p := range i.want.Places {
		if p.Kind == kind {
			return p.Unit
		}
	}
	return ""
}

// aboutUnit is an error about the server of a unit.
type aboutUnit struct {
	err  error
	unit string
}

func (e *aboutUnit) Error() string { return e.unit + ": " + e.err.Error() }
func (e *aboutUnit) Unwrap() error { return e.err }

// compare compares the places of a kind with what the server reads.
func (i *inspection) compare(server *discover.Server, kind string) error {
	var problems []error
	for _, p := range i.want.Places {
		if p.Kind != kind || p.Unchecked {
			continue
		}
		place := placeOf(i.want, p, nil, filepath.Clean)
		if place.SNIMap != "" && kind == "exim" {
			place.Pairs = nil
		}
		notes, err := server.Compare(place)
		i.notes = append(i.notes, notes...)
		problems = append(problems, i.object(err))
	}
	return errors.Join(problems...)
}

// readable asks whether the mail server's user could read the files.
func (i *inspection) readable(server *discover.Server, kind string) error {
	if server.User == "" {
		return nil
	}
	reader, err := deploy.FindReader(server.User)
	if err == nil {
		err = reader.CanRead(slices.DeleteFunc(i.want.Targets(), func(t deploy.Target) bool { return t.Kind != kind }))
	}
	return i.object(err)
}

func (i *inspection) object(err error) error {
	if err != nil && os.Geteuid() != 0 {
		i.note(err)
		return nil
	}
	return err
}

// tryCandidates has Exim open the new files before they are in place. Only root can ask.
func tryCandidates(plan *deploy.Plan, want wanted.Certificate, bundles []*bundle.Bundle) {
	isExim := func(p wanted.Place) bool { return p.Kind == "exim" && !p.Unchecked }
	if os.Geteuid() != 0 || !slices.ContainsFunc(want.Places, isExim) || !plan.ContentChanges() {
		return
	}
	plan.Try(func(candidate func(path string) string) error {
		ctx, cancel := context.WithTimeout(context.Background(), tryPatience)
		defer cancel()
		for _, p := range want.Places {
			if !isExim(p) {
				continue
			}
			place := placeOf(want, p, bundles, candidate)
			for _, dir := range place.Directory {
				place.Pairs = append(place.Pairs, discover.Combined(dir+"/combined.pem"))
			}
			_, err := discover.TryExim(ctx, place.Pairs)
			if refused, ok := errors.AsType[*discover.Refused](err); ok {
				return refused
			}
		}
		return nil
	})
}

// placeOf is what a place writes for a mail server, as discover compares it: of all key types, or of those that have a bundle.
// candidate says where a file lies before it has its name.
func placeOf(want wanted.Certificate, p wanted.Place, bundles []*bundle.Bundle, candidate func(path string) string) discover.Place {
	place := discover.Place{Names: want.ClientNames()}
	for i, t := range p.Targets {
		place.SNIMap = t.SNIMap
		if bundles != nil && bundles[i] == nil {
			continue
		}
		if bundles != nil {
			t.Combined = strings.ReplaceAll(t.Combined, "{serial}", bundles[i].Serial())
		}
		switch {
		case t.Directory != "":
			place.Directory = append(place.Directory, candidate(t.Directory))
		case t.Combined != "":
			place.Pairs = append(place.Pairs, discover.Combined(candidate(t.Combined)))
		default:
			place.Pairs = append(place.Pairs, discover.Pair{Certificate: candidate(t.Certificate), Key: candidate(t.PrivateKey)})
		}
	}
	return place
}

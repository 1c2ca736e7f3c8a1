package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// inspect asks the mail servers of the targets, before anything is ordered or written: do they read what is to be written,
// may their users, and, where that is asked, is their configuration in order? A target that says unchecked is left out,
// and so is a server whose programs are not here. Without root's rights the answers are not certain: what they object to is
// a warning then.
func (p *pass) inspect(ctx context.Context, sound bool) error {
	var problems []error
	for _, kind := range []string{"exim", "postfix", "dovecot"} {
		if !p.hasCheckedKind(kind) {
			continue
		}
		if err := p.soundServer(ctx, kind); err != nil && sound {
			problems = append(problems, err)
		} else if err != nil {
			p.warn(err.Error())
		} else {
			problems = append(problems, p.inspectServer(ctx, kind)...)
		}
	}
	return errors.Join(problems...)
}

// soundServer asks a server whether its configuration is in order. Only root's answer counts.
func (p *pass) soundServer(ctx context.Context, kind string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	err := discover.Sound(ctx, kind)
	if _, unsound := errors.AsType[*discover.Unsound](err); unsound {
		return &aboutUnit{err: err, unit: p.unitOf(kind)}
	}
	if err != nil && !errors.Is(err, discover.ErrAbsent) {
		p.warn(err.Error())
	}
	return nil
}

func (p *pass) hasCheckedKind(kind string) bool {
	for _, t := range p.certificate.Deploy {
		if t.Kind == kind && !t.Unchecked {
			return true
		}
	}
	return false
}

func (p *pass) unitOf(kind string) string {
	for _, t := range p.certificate.Deploy {
		if t.Kind == kind {
			return t.Unit
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

// inspectServer compares the targets of a kind with what the server reads.
func (p *pass) inspectServer(ctx context.Context, kind string) (problems []error) {
	server, err := discover.Look(ctx, kind, clientNames(p.certificate.Domains))
	if errors.Is(err, discover.ErrAbsent) {
		return nil
	}
	if err != nil && os.Geteuid() != 0 {
		p.say("check", err.Error()) // a sandboxed service cannot ask; there is nothing to mend
		return nil
	}
	if err != nil {
		p.warn(err.Error())
		return nil
	}
	for _, note := range server.Notes {
		p.warn(note)
	}
	object := func(err error) {
		if err != nil && os.Geteuid() == 0 {
			problems = append(problems, err)
		} else if err != nil {
			p.warn(err.Error())
		}
	}
	for _, t := range p.certificate.Deploy {
		if t.Kind != kind || t.Unchecked {
			continue
		}
		place := p.place(t)
		if t.SNIMap != "" && kind == "exim" {
			place.Pairs = nil
		}
		notes, err := server.Compare(place)
		for _, note := range notes {
			p.warn(note)
		}
		object(err)
	}
	if server.User != "" {
		object(p.readableBy(server.User, kind))
	}
	return problems
}

// readableBy asks whether a mail server's user could read the files of the targets.
func (p *pass) readableBy(user, kind string) error {
	return deploy.Readable(user, slices.DeleteFunc(p.targets(), func(t deploy.Target) bool { return t.Kind != kind }), p.remembered())
}

// tryCandidates has Exim open the new files before they are in place. Only root can ask.
func (p *pass) tryCandidates(plan *deploy.Plan) {
	if os.Geteuid() != 0 || !p.hasCheckedKind("exim") || !plan.Summary().ContentChanges() {
		return
	}
	plan.Try(func(staged []deploy.Target) error {
		ctx, cancel := context.WithTimeout(context.Background(), tryPatience)
		defer cancel()
		var candidates []discover.Pair
		for _, t := range staged {
			if t.Kind == "exim" && !t.Unchecked {
				ways := t.Pairs(nil)
				candidates = append(candidates, discover.Pair(ways[len(ways)-1]))
			}
		}
		_, err := discover.TryExim(ctx, candidates)
		if refused, ok := errors.AsType[*discover.Refused](err); ok {
			return refused
		}
		return nil
	})
}

// tryPatience bounds the handshakes with candidates.
const tryPatience = 20 * time.Second

// rolledBack reports whether an operator has chosen an earlier certificate.
func (p *pass) rolledBack() bool {
	return slices.ContainsFunc(p.keys(), func(key bundle.KeyType) bool { return p.record.Slot(key).RolledBack })
}

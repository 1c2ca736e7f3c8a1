package pass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
)

// unread is the part of the places whose servers read other files, if there are others that read what mxcert writes.
type unread struct {
	kinds []string // of the places
	err   error    // what these servers read instead
}

// check checks the places before an order or a deployment. If some servers read other files, they do not keep the certificate from the
// others: p.unread then says which these are. The error is about all places.
func (p *pass) check(ctx context.Context, sound bool) (notes []string, err error) {
	p.unread = nil
	notes, err = p.Helper.Check(ctx, p.want, p.known(), p.plan, sound)
	kinds := p.want.Kinds()
	if report.KindOf(err) != kindNotRead || len(kinds) < 2 {
		return notes, err
	}
	var all []string
	found := &unread{}
	for _, kind := range kinds {
		more, kindErr := p.Helper.Check(ctx, p.want.Only(kind), p.known(), p.plan, sound)
		all = append(all, more...)
		switch {
		case kindErr == nil:
		case report.KindOf(kindErr) == kindNotRead:
			found.kinds, found.err = append(found.kinds, kind), errors.Join(found.err, kindErr)
		default:
			return notes, err
		}
	}
	if len(found.kinds) == 0 || len(found.kinds) == len(kinds) {
		return notes, err
	}
	p.unread = found
	return all, nil
}

// partly returns the error of a pass that has served only a part of the servers; nil if it has served all.
func (p *pass) partly(ctx context.Context) error {
	if p.unread == nil {
		return nil
	}
	p.seen = served.Look(ctx, Probes(p.want, p.have.Bundles))
	return report.At("deploy", &takenBack{cause: p.unread.err, what: fmt.Sprintf("the certificate is in service at the other targets (%s)", strings.Join(p.reached().Kinds(), ", "))})
}

// unreadError says which servers read other files; nil if there are none, or if all do.
func (p *pass) unreadError() error {
	if p.unread == nil {
		return nil
	}
	return p.unread.err
}

// stillUnread asks the servers again after a pass in which some of them read other files: the handshakes may not show that.
func (p *pass) stillUnread(ctx context.Context) error {
	notes, err := p.check(ctx, true)
	if p.warnAll(notes); err != nil {
		return report.At("deploy", err)
	}
	return p.partly(ctx)
}

// reached is the certificate with those places only that servers read.
func (p *pass) reached() wanted.Certificate {
	if p.unread == nil {
		return p.want
	}
	return p.want.Only(slices.DeleteFunc(p.want.Kinds(), func(kind string) bool { return slices.Contains(p.unread.kinds, kind) })...)
}

// probes lists the handshakes that prove the current bundles, without those with a server that does not read them.
func (p *pass) probes() []served.Probe {
	all := Probes(p.want, p.have.Bundles)
	if p.unread == nil {
		return all
	}
	kinds := p.reached().Kinds()
	return slices.DeleteFunc(all, func(probe served.Probe) bool {
		owners := served.UsualServers(probe.Address)
		return !slices.ContainsFunc(kinds, func(kind string) bool { return slices.Contains(owners, kind) }) &&
			slices.ContainsFunc(p.unread.kinds, func(kind string) bool { return slices.Contains(owners, kind) })
	})
}

package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"mxcert/acme"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/engine"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/privilege"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// translate turns a configuration into what this host wants, after it has checked everything that needs no network.
func (a *app) translate(ctx context.Context, config *configs.Config, command string) (*wanted.Host, error) {
	if err := wanted.Check(config); err != nil {
		return nil, err
	}
	h, err := wanted.From(config)
	h.ExplainSecrets(a.explain(ctx, config, command))
	h.SendAsRoot(helper.Send)
	if err == nil && os.Geteuid() == 0 {
		h.KeepSecrets() // before this process becomes the state's owner
	}
	return h, err
}

// runner makes the runner that all passes share. If readOnly is set, it creates no state directory, and is no member of a fleet: it looks at
// what the disk has. The caller closes the runner.
func (a *app) runner(h *wanted.Host, readOnly bool) (*pass.Runner, error) {
	if readOnly {
		return a.viewer(h)
	}
	if err := privilege.BecomeOwner(h.State); err != nil {
		return nil, err
	}
	files, err := disk.Open(h.State)
	if err != nil {
		return nil, err
	}
	member, leave, err := a.join(h.Fleet, files)
	if err != nil {
		return nil, err
	}
	r, err := pass.New(h, bookOf(files, member), a.version)
	if err != nil {
		return nil, errors.Join(err, leave())
	}
	r.Helper, r.Fleet, r.Leave = helper.NewClient(), member, leave
	return r, nil
}

// viewer makes a runner that changes nothing.
func (a *app) viewer(h *wanted.Host) (*pass.Runner, error) {
	store, err := view(h.State)
	if err != nil {
		return nil, err
	}
	r, err := pass.New(h, store, a.version)
	if err != nil { // looking at the CAs needs no secret, so an unreadable one does not matter
		settings, _ := h.Authorities(a.version)
		r = &pass.Runner{Host: h, Release: a.version, Store: store, CAs: acme.NewAuthorities(store, settings...)}
	}
	r.Helper = helper.NewClient()
	return r, nil
}

// join makes this process a member of the fleet, if there is one. It asks nobody yet.
func (a *app) join(f *wanted.Fleet, disk state.Store) (member *fleet.Member, leave func() error, err error) {
	member, leave, err = engine.Join(f, engine.Process{Release: a.version}, disk, a.logger(slog.LevelWarn))
	if err != nil {
		return nil, nil, &report.Exit{Code: report.CodeConfig, Err: err}
	}
	return member, leave, nil
}

// bookOf is the state of this host, which the fleet shares in part.
func bookOf(files state.Store, member *fleet.Member) *state.Book {
	if member == nil {
		return state.New(files)
	}
	return state.New(member.Store())
}

// The functions that open the state make a process of root the state's owner, for good: see package privilege. What needs the rights of
// root, such as reading the configuration, comes before.

// change opens the state for writing, and creates it if it is missing. It is the disk alone: a fleet hears of changes in a pass.
func change(path string) (*state.Book, error) {
	if err := privilege.BecomeOwner(path); err != nil {
		return nil, err
	}
	return state.Open(disk.Open(path))
}

// view opens the state for reading only. A state that does not exist yet is empty.
func view(path string) (*state.Book, error) {
	if err := privilege.BecomeOwner(path); err != nil {
		return nil, err
	}
	store, err := state.Open(disk.View(path))
	if errors.Is(err, fs.ErrNotExist) {
		return state.New(disk.At(path)), nil
	}
	return store, err
}

// book is the state without a look at it: it may be missing, or damaged.
func book(path string) (*state.Book, error) {
	return state.New(disk.At(path)), privilege.BecomeOwner(path)
}

// choose returns the certificates with the given names, or all if there are no names. A name that is not configured is a usage error.
func choose(host *wanted.Host, names []string) ([]wanted.Certificate, error) {
	wants, err := host.Choose(names)
	if err != nil {
		return nil, &report.Exit{Code: report.CodeUsage, Err: err}
	}
	return wants, nil
}

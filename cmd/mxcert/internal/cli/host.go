package cli

import (
	"errors"
	"io/fs"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// translate turns a configuration into what this host wants, after it has checked everything that needs no network.
func translate(config *configs.Config) (*wanted.Host, error) {
	if err := wanted.Check(config); err != nil {
		return nil, err
	}
	return wanted.From(config)
}

// runner makes the runner that all passes share. If readOnly is set, it creates no state directory. The caller closes the runner.
func (a *app) runner(h *wanted.Host, readOnly bool) (*pass.Runner, error) {
	open := change
	if readOnly {
		open = view
	}
	store, err := open(h.State)
	if err != nil {
		return nil, err
	}
	r, err := pass.New(h, store, a.version)
	if err == nil && !readOnly {
		r.Helper = helper.NewClient()
	}
	return r, err
}

// change opens the state for writing, and creates it if it is missing.
func change(path string) (*state.Book, error) { return state.Open(disk.Open(path)) }

// view opens the state for reading only. A state that does not exist yet is empty.
func view(path string) (*state.Book, error) {
	store, err := state.Open(disk.View(path))
	if errors.Is(err, fs.ErrNotExist) {
		return state.New(disk.At(path)), nil
	}
	return store, err
}

// choose returns the certificates with the given names, or all if there are no names. A name that is not configured is a usage error.
func choose(host *wanted.Host, names []string) ([]wanted.Certificate, error) {
	wants, err := host.Choose(names)
	if err != nil {
		return nil, &report.Exit{Code: report.CodeUsage, Err: err}
	}
	return wants, nil
}

package pass

import (
	"time"

	"mxcert/acme"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Runner holds what the passes of one configuration share.
type Runner struct {
	Host    *wanted.Host
	Release string // version of the program
	Store   *state.Book
	CAs     *acme.Authorities
	Helper  *helper.Client
	Drift   Drift         // nil if no daemon watches the files
	Fleet   *fleet.Member // nil if this host is in none; otherwise Store is the book in its store
	Leave   func() error  // closes its connections; nil if there are none

	reloads reloads
}

// Drift watches the files that passes have written. Passes report their own changes to it, so that it counts only changes that others make.
type Drift interface {
	// Begin reports that a pass on the certificate has started: from now on, changes of its files are its own.
	Begin(name string)
	// Left reports how the pass leaves the files: fingerprints by path. If a file differs later, something else has changed it.
	Left(name string, prints map[string]string)
	// Wrote reports that the pass has changed files from before to after. Several certificates may share a file.
	Wrote(name string, before, after map[string]string)
	// End reports that the pass has ended. outOfService says that it could not put its certificate in service.
	End(name string, outOfService bool)
}

// New returns a runner for what a host wants, with a store. It returns an error if the settings of a CA cannot be used. The caller closes
// the runner.
func New(host *wanted.Host, store *state.Book, release string) (*Runner, error) {
	settings, err := host.Authorities(release)
	if err != nil {
		return nil, err
	}
	return &Runner{Host: host, Release: release, Store: store, CAs: acme.NewAuthorities(store, settings...), Helper: &helper.Client{}}, nil
}

// Close closes the connections to the CAs and to the store of the fleet. Without a fleet, the runner can be used again.
func (r *Runner) Close() {
	r.CAs.Close()
	if r.Leave != nil {
		_ = r.Leave() // leases end by themselves, too
	}
}

func (r *Runner) driftBegins(name string) {
	if r.Drift != nil {
		r.Drift.Begin(name)
	}
}

func (r *Runner) driftEnds(name string, outOfService bool) {
	if r.Drift != nil {
		r.Drift.End(name, outOfService)
	}
}

// reloadPatience limits the wait for a reload job of systemd.
const reloadPatience = 60 * time.Second

package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"

	"mxcert/cmd/mxcert/internal/engine"
	"mxcert/cmd/mxcert/internal/privilege"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// fleetTime limits a look at a fleet: each question to the store has 5 s, and there is one for each certificate.
const fleetTime = 2 * time.Minute

func (a *app) fleetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "fleet", Short: "Hosts that share certificates: who has and serves what", Args: cobra.NoArgs,
		Long: `Several hosts share certificates through etcd (section fleet). One host orders, all hosts serve what it got, and a change of keys counts
with all of them. What they share is called the store of the fleet. What a host serves is on its own disk: without the store, mail goes
on. mxcert-fleet(7) says more.`,
		RunE: func(*cobra.Command, []string) error {
			return report.Usage("fleet status, fleet join, fleet recipients or fleet forget?")
		},
	}
	cmd.AddCommand(a.fleetStatusCommand(), a.fleetJoinCommand(), a.fleetRecipientsCommand(), a.fleetForgetCommand())
	return cmd
}

// fleetSight is a command's membership in the fleet of this host.
type fleetSight struct {
	*fleet.Member
	host  *wanted.Host
	book  *state.Book // of the disk
	leave func() error
}

// purpose is what a command is a member of the fleet for.
type purpose int

const (
	toShow   purpose = iota // what this host knows, and what the store says if it can be asked
	toAsk                   // the store: without the files and secrets for that, there is an error
	toChange                // likewise, and to write to the store and to the disk
)

// fleet makes this command a member of the fleet. If it is not to change something, nothing is written, neither to the store nor to the disk. The
// caller calls leave.
func (a *app) fleet(ctx context.Context, command string, what purpose) (*fleetSight, error) {
	config, err := a.load()
	if err != nil {
		return nil, err
	}
	h, err := a.translate(ctx, config, command)
	if err != nil {
		return nil, err
	}
	if h.Fleet == nil {
		return nil, report.Usage("the configuration has no section fleet; mxcert-fleet(7) says how to write one")
	}
	if what != toShow {
		if err := wanted.CheckFleet(config); err != nil {
			return nil, err
		}
	}
	files, err := fleetDisk(h.State, what != toChange)
	if err != nil {
		return nil, err
	}
	if err := lacks(h.Fleet, what); err != nil {
		return nil, &report.Exit{Code: report.CodeConfig, Err: err}
	}
	member, leave, err := engine.Join(h.Fleet, engine.Process{Release: a.version, Looks: what != toChange}, files, slog.New(slog.DiscardHandler)) // the command says what is wrong
	if err != nil {
		return nil, &report.Exit{Code: report.CodeConfig, Err: err}
	}
	return &fleetSight{Member: member, host: h, book: state.New(files), leave: leave}, nil
}

// lacks returns why a command cannot be a member. For a look, this host may lack a file or secret; but if only this command lacks it, because systemd
// hands it to the service alone, what the command could say of the store would not be true of this host.
func lacks(f *wanted.Fleet, what purpose) error {
	_, err := f.Identity()
	if what != toShow {
		return err
	}
	_, clientErr := f.ClientCertificate()
	for _, err := range []error{err, clientErr} {
		if _, only := errors.AsType[*lackError](err); only {
			return err
		}
	}
	return nil
}

// fleetDisk opens the state of this host. For a look it may be missing: then this host has nothing yet.
func fleetDisk(path string, looks bool) (state.Store, error) {
	if err := privilege.BecomeOwner(path); err != nil {
		return nil, err
	}
	if !looks {
		return disk.Open(path)
	}
	files, err := disk.View(path)
	if errors.Is(err, fs.ErrNotExist) {
		return disk.At(path), nil
	}
	return files, err
}

// fleetCode is the exit code for an error of a fleet: 75 if its store is away, 3 if it answers and must not be used.
func fleetCode(err error) report.Code {
	switch {
	case err == nil:
		return report.CodeOK
	case errors.As(err, new(*fleet.Refusal)):
		return report.CodeFault
	case errors.Is(err, state.ErrAway), errors.Is(err, state.ErrLocked):
		return report.CodeTemporary
	}
	return report.CodeOf(err)
}

// fleetFailed ends a command with an error of a fleet, and its exit code.
func fleetFailed(err error) error {
	if err == nil {
		return nil
	}
	return &report.Exit{Code: fleetCode(err), Err: err}
}

// Package unit makes a running service take up its new certificate: it asks systemd over D-Bus to reload the unit, waits
// for the job and tells what became of it.
//
// Reload is the only verb for units of others. A start, stop, restart or signal is not reachable from here, whatever
// fails: a mail server with an old certificate beats one that is down. Only mxcert's own helper units are started. The interface is org.freedesktop.systemd1(5); the results of a job
// are those of its JobRemoved signal. A reload that is done proves only that the command ran: whether the server uses
// the new certificate is for a handshake to show.
//
// Not supported: user instances of systemd, machines other than this one, init systems other than systemd, and unit
// types other than .service.
package unit

import (
	"context"
	"errors"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
)

// patience bounds a reload whose context has no deadline. The units that Debian generates for Exim allow five minutes,
// which is too long to leave a certificate in doubt.
const patience = 90 * time.Second

// dialPatience bounds [Connect] in the same way.
const dialPatience = 15 * time.Second

// Manager is systemd's, on this host. It holds no connection between calls: one that a restart of the bus or a
// re-execution of systemd has made useless looks like silence, and a connection costs only milliseconds. Its methods may
// be used concurrently.
type Manager struct{}

// verbs is all of systemd that this package can reach: to look at a unit, to reload it, and to start a helper.
type verbs interface {
	StartUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	ReloadUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	GetUnitPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
	GetServicePropertyContext(ctx context.Context, service, property string) (*sd.Property, error)
}

// State is what systemd knows about a unit: its own words, see systemctl(1).
type State struct {
	Unit         string
	LoadState    string // loaded, not-found, masked, bad-setting, error
	ActiveState  string // active, reloading, inactive, failed, activating, deactivating
	SubState     string // e.g. running, exited, dead
	CanReload    bool   // the unit has an ExecReload
	FragmentPath string // the unit's file
	MainPID      uint32 // 0 when systemd does not know one
}

// Connect makes sure that systemd can be reached, within 15 s: over the system bus, whose address
// DBUS_SYSTEM_BUS_ADDRESS may replace. For root, systemd's own socket serves as well when there is no bus. The error is
// an [*Error].
func Connect(ctx context.Context) (*Manager, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	if _, _, err := connect(ctx); err != nil {
		return nil, failure(ctx, "", err)
	}
	return &Manager{}, nil
}

// Close says that the Manager is not needed any more. There is nothing to give back.
func (m *Manager) Close() {}

// Reload reloads a unit and waits for the job, at most 90 s or until ctx ends; the job itself goes on then. It asks
// even if the unit looks inactive: systemd's answer is the one that counts. The error is an [*Error].
func (m *Manager) Reload(ctx context.Context, unit string) error {
	if err := checkName(unit); err != nil {
		return err
	}
	err := reload(ctx, unit)
	var e *Error
	if !errors.As(err, &e) || e.Result != resultDenied {
		return err
	}
	// Rights are checked before anything else: do not send somebody to write a rule for a unit that is not there.
	if check := m.Check(ctx, unit); errors.As(check, &e) && e.certain() {
		return check
	}
	return err
}

// Start starts one of mxcert's own helper units, mxcert-install@NAME.service or mxcert-hook@ID.service, and waits until
// its program runs. The error is an [*Error].
func (m *Manager) Start(ctx context.Context, unit string) error {
	if err := checkName(unit); err != nil {
		return err
	}
	if !isHelper(unit) {
		return &Error{Unit: unit, Result: resultInvalidName}
	}
	return job(ctx, unit, verbs.StartUnitContext)
}

// isHelper knows the units that belong to mxcert itself.
func isHelper(unit string) bool {
	return strings.HasPrefix(unit, "mxcert-install@") || strings.HasPrefix(unit, "mxcert-hook@")
}

func reload(ctx context.Context, unit string) error { return job(ctx, unit, verbs.ReloadUnitContext) }

// job asks for a job and waits for its result.
func job(ctx context.Context, unit string, verb func(verbs, context.Context, string, string, chan<- string) (int, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel() // this closes the connection
	systemd, lost, err := connect(ctx)
	if err != nil {
		return failure(ctx, unit, err)
	}
	result := make(chan string, 1) // buffered: go-systemd blocks all jobs while nobody takes a result
	if _, err := verb(systemd, ctx, unit, "replace", result); err != nil {
		return failure(ctx, unit, err)
	}
	select {
	case word := <-result:
		if word == "done" {
			return nil
		}
		return &Error{Unit: unit, Result: word}
	case <-lost:
		return failure(ctx, unit, errLost)
	case <-ctx.Done():
		return failure(ctx, unit, ctx.Err())
	}
}

// Describe tells what systemd knows about a unit. A unit that does not exist is no error: its LoadState says so.
func (m *Manager) Describe(ctx context.Context, unit string) (State, error) {
	if err := checkName(unit); err != nil {
		return State{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	systemd, _, err := connect(ctx)
	if err != nil {
		return State{}, failure(ctx, unit, err)
	}
	p, err := systemd.GetUnitPropertiesContext(ctx, unit)
	if err != nil {
		return State{}, failure(ctx, unit, err)
	}
	s := State{Unit: unit}
	s.LoadState, _ = p["LoadState"].(string)
	s.ActiveState, _ = p["ActiveState"].(string)
	s.SubState, _ = p["SubState"].(string)
	s.CanReload, _ = p["CanReload"].(bool)
	s.FragmentPath, _ = p["FragmentPath"].(string)
	if s.LoadState != "loaded" {
		return s, nil
	}
	pid, err := systemd.GetServicePropertyContext(ctx, unit, "MainPID")
	if err != nil {
		return State{}, failure(ctx, unit, err)
	}
	s.MainPID, _ = pid.Value.Value().(uint32)
	return s, nil
}

// Check tells whether a reload of the unit can work now. The error is an [*Error] with the Result no-such-unit, masked,
// not-loaded, inactive or not-reloadable, or what kept Check from finding out.
func (m *Manager) Check(ctx context.Context, unit string) error {
	s, err := m.Describe(ctx, unit)
	if err != nil {
		return err
	}
	fault := func(result, text string) error { return &Error{Unit: unit, Result: result, Text: text} }
	switch {
	case s.LoadState == "not-found":
		return fault(resultNoSuchUnit, "")
	case s.LoadState == "masked":
		return fault(resultMasked, "")
	case s.LoadState != "loaded":
		return fault(resultNotLoaded, s.LoadState)
	case s.ActiveState != "active" && s.ActiveState != "reloading" && s.ActiveState != "refreshing":
		return fault(resultInactive, s.ActiveState)
	case !s.CanReload:
		return fault(resultNotReloadable, "")
	}
	return nil
}

// checkName accepts the full names of services (systemd.unit(5)). Patterns are none, and no name reaches systemd or a
// message that could be anything else.
func checkName(unit string) error {
	name, ok := strings.CutSuffix(unit, ".service")
	strange := strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`:_.\@-`, r))
	})
	if !ok || name == "" || len(unit) > 255 || strange >= 0 || name[0] == '.' {
		return &Error{Unit: unit, Result: resultInvalidName}
	}
	return nil
}

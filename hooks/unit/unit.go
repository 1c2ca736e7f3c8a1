// Package unit makes a running service load its new certificate: it asks systemd over D-Bus to reload the unit, waits for the
// job and reports its result. It also writes the polkit rule that lets mxcert's own service do so.
//
// Reload is the only verb. Whatever fails, this package cannot start, stop, restart or signal a unit: a mail server with an old
// certificate is better than one that is down. The interface is org.freedesktop.systemd1(5); the results of a job are those of
// its JobRemoved signal. A finished reload proves only that the command ran; a handshake has to show whether the server uses
// the new certificate.
//
// The package keeps no connection between calls: after a restart of the bus, or if systemd has executed itself again, an old
// one would only be silent, and a new one costs only milliseconds. All functions may be used concurrently.
//
// Not supported: user instances of systemd, machines other than this one, init systems other than systemd, and unit
// types other than .service.
package unit

import (
	"context"
	"strings"
	"time"
)

// patience bounds a call whose context has no deadline. The units that Debian generates for Exim allow five minutes,
// which is too long to leave a certificate in doubt.
const patience = 90 * time.Second

// verbs is the part of systemd that this package can reach: it can look at a unit and reload it.
type verbs interface {
	ReloadUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	GetUnitPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
}

// state is what systemd knows about a unit: its own words, see systemctl(1).
type state struct {
	load      string // loaded, not-found, masked, bad-setting, error
	active    string // active, reloading, inactive, failed, activating, deactivating
	canReload bool   // the unit has an ExecReload
}

// Reload reloads a unit and waits for the job, at most 90 s or until ctx ends; the job itself then continues. It asks
// even if the unit looks inactive: systemd's answer is the one that counts. For postfix.service it reloads the instance that
// does the work, see [Names]. The error is an [*Error].
func Reload(ctx context.Context, name string) error {
	return with(ctx, name, func(ctx context.Context, s *systemd, name string) *Error {
		err := s.reload(ctx, name)
		if err == nil || err.Result != resultDenied {
			return err
		}
		// systemd checks rights first: do not ask the operator to write a rule for a unit that does not exist.
		if check := s.check(ctx, name); check != nil && check.certain() {
			return check
		}
		return err
	})
}

// Check reports whether a reload of the unit can work now. The error is an [*Error] with the Result no-such-unit, masked,
// not-loaded, inactive or not-reloadable, or the reason why Check could not find out.
func Check(ctx context.Context, name string) error {
	return with(ctx, name, func(ctx context.Context, s *systemd, name string) *Error { return s.check(ctx, name) })
}

// with connects to systemd for one question about the unit that a name stands for.
func with(ctx context.Context, name string, ask func(ctx context.Context, s *systemd, name string) *Error) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel() // this closes the connection
	s, err := connect(ctx)
	if err != nil {
		return failure(ctx, name, err)
	}
	if err := ask(ctx, s, s.instance(ctx, name)); err != nil { // a nil *Error, returned directly, would become a non-nil error
		return err
	}
	return nil
}

// reload asks for the job and waits for its result.
func (s *systemd) reload(ctx context.Context, name string) *Error {
	result := make(chan string, 1) // buffered: go-systemd blocks all jobs until a result is received
	if _, err := s.ReloadUnitContext(ctx, name, "replace", result); err != nil {
		return failure(ctx, name, err)
	}
	select {
	case word := <-result:
		if word == "done" {
			return nil
		}
		return &Error{Unit: name, Result: word}
	case <-s.lost:
		return failure(ctx, name, errLost)
	case <-ctx.Done():
		return failure(ctx, name, ctx.Err())
	}
}

// describe asks what systemd knows about a unit. A unit that does not exist is not an error: its load state says so.
func (s *systemd) describe(ctx context.Context, name string) (state, *Error) {
	p, err := s.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return state{}, failure(ctx, name, err)
	}
	var known state
	known.load, _ = p["LoadState"].(string)
	known.active, _ = p["ActiveState"].(string)
	known.canReload, _ = p["CanReload"].(bool)
	return known, nil
}

func (s *systemd) check(ctx context.Context, name string) *Error {
	known, err := s.describe(ctx, name)
	if err != nil {
		return err
	}
	fault := func(result, text string) *Error { return &Error{Unit: name, Result: result, Text: text} }
	switch {
	case known.load == "not-found":
		return fault(resultNoSuchUnit, "")
	case known.load == "masked":
		return fault(resultMasked, "")
	case known.load != "loaded":
		return fault(resultNotLoaded, known.load)
	case known.active != "active" && known.active != "reloading" && known.active != "refreshing":
		return fault(resultInactive, known.active)
	case !known.canReload:
		return fault(resultNotReloadable, "")
	}
	return nil
}

// instance returns the unit that a name stands for.
func (s *systemd) instance(ctx context.Context, name string) string {
	if name != postfix {
		return name
	}
	if known, err := s.describe(ctx, postfixInstance); err == nil && known.load == "loaded" {
		return postfixInstance
	}
	return name
}

// checkName accepts the full names of services (systemd.unit(5)). It refuses patterns, and every name that could be
// something else to systemd or in a message.
func checkName(name string) error {
	stem, ok := strings.CutSuffix(name, ".service")
	strange := strings.IndexFunc(stem, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`:_.\@-`, r))
	})
	if !ok || stem == "" || len(name) > 255 || strange >= 0 || stem[0] == '.' {
		return &Error{Unit: name, Result: resultInvalidName}
	}
	return nil
}

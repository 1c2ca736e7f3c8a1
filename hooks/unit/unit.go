// Package unit makes a running service use its new certificate. It asks systemd over D-Bus to reload the unit, waits for the job, and
// reports the result. It also writes the polkit rule that allows mxcert's own service to do so, and knows which credentials that service has.
//
// The package can only reload. It has no way to start, stop, restart or signal a unit, whatever fails, because a mail server with an old
// certificate is better than one that is down. The interface is org.freedesktop.systemd1(5); the results of a job are those of its
// JobRemoved signal. A successful reload proves only that the command ran. Only a handshake can show that the server uses the new
// certificate.
//
// The package keeps nothing between calls and makes a new connection for each, which costs only milliseconds. An old connection would be
// useless after a restart of the bus or a re-execution of systemd, and would simply stay silent. All functions may be used concurrently.
//
// Not supported: user instances of systemd, other machines, init systems other than systemd, and unit types other than .service.
package unit

import (
	"context"
	"strings"
	"time"
)

// patience limits a call whose context has no deadline. The units that Debian generates for Exim allow five minutes, which is too long to
// leave it open whether a certificate is in service.
const patience = 90 * time.Second

// verbs is the part of systemd that this package can use: to read the state and settings of a unit and to reload it.
type verbs interface {
	ReloadUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	GetUnitPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
	GetUnitTypePropertiesContext(ctx context.Context, unit, unitType string) (map[string]any, error)
}

// state is what systemd knows about a unit, in systemd's own words; see systemctl(1).
type state struct {
	load      string // loaded, not-found, masked, bad-setting, error
	active    string // active, reloading, inactive, failed, activating, deactivating
	sub       string // more exactly: running, exited, dead and others
	canReload bool   // the unit has an ExecReload
}

// runs reports whether the unit is active, be it while it reloads.
func (s state) runs() bool {
	return s.active == "active" || s.active == "reloading" || s.active == "refreshing"
}

// Reload reloads a unit and waits for the job, until ctx ends or at most 90 s. The job itself continues after that. Reload asks systemd
// even if the unit looks inactive, because systemd's answer is the one that counts. For postfix.service it reloads the instance that does
// the work, see [Names]. The error is an [*Error].
func Reload(ctx context.Context, name string) error {
	return with(ctx, name, func(ctx context.Context, s *systemd, name string) *Error {
		err := s.reload(ctx, name)
		if err == nil || err.Result != resultDenied {
			return err
		}
		// systemd checks the rights first. So check the unit here, before an error asks somebody to write a rule for a unit that does not
		// exist.
		if check := s.check(ctx, name); check != nil && check.certain() {
			return check
		}
		return err
	})
}

// Check reports whether a reload of the unit can work now. The error is an [*Error]. Its Result is no-such-unit, masked, not-loaded,
// inactive or not-reloadable, or says why Check could not find out.
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
	if err := ask(ctx, s, s.instance(ctx, name)); err != nil { // not returned directly: a nil *Error would become an error
		return err
	}
	return nil
}

// reload asks for the job and waits for its result.
func (s *systemd) reload(ctx context.Context, name string) *Error {
	result := make(chan string, 1) // buffered: go-systemd blocks all jobs until somebody takes a result
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

// describe asks what systemd knows about a unit. If the unit does not exist, there is no error: its load state says so.
func (s *systemd) describe(ctx context.Context, name string) (state, *Error) {
	p, err := s.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return state{}, failure(ctx, name, err)
	}
	var known state
	known.load, _ = p["LoadState"].(string)
	known.active, _ = p["ActiveState"].(string)
	known.sub, _ = p["SubState"].(string)
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
	case !known.runs():
		return fault(resultInactive, known.active)
	case !known.canReload:
		return fault(resultNotReloadable, "")
	}
	return nil
}

// instance returns the unit that a name stands for. For postfix.service this is its instance if that works, or if it should: then
// postfix.service is only a command that has ended.
func (s *systemd) instance(ctx context.Context, name string) string {
	if name != postfix {
		return name
	}
	known, err := s.describe(ctx, postfixInstance)
	if err != nil || known.load != "loaded" {
		return name
	}
	if known.runs() {
		return postfixInstance
	}
	if main, err := s.describe(ctx, name); err == nil && main.sub == "exited" {
		return postfixInstance
	}
	return name
}

// checkName accepts full names of services (systemd.unit(5)). It refuses patterns, and every name that could mean something else to systemd
// or in a message.
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

package unit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/user"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// What an [Error] can report beside the results of systemd's own jobs.
const (
	resultInvalidName   = "invalid-name"
	resultNoSuchUnit    = "no-such-unit"
	resultMasked        = "masked"
	resultNotLoaded     = "not-loaded"
	resultInactive      = "inactive"
	resultNotReloadable = "not-reloadable"
	resultDenied        = "access-denied"
	resultNoBus         = "bus-away"
	resultNoSystemd     = "systemd-away"
	resultLost          = "bus-lost"
	resultDeadline      = "deadline"
	resultInterrupted   = "interrupted"
	resultRefused       = "refused"
)

// Error is why a unit was not reloaded, or not looked at.
type Error struct {
	Unit   string // "" when the connection itself failed
	Result string // see Kind
	Text   string // what systemd or the bus said, if anything; foreign text
	cause  error
}

// reasons has one sentence for each result.
var reasons = map[string]string{
	"failed":            "the reload command failed or took too long for systemd",
	"canceled":          "the reload job was cancelled, the unit was probably stopped meanwhile",
	"timeout":           "the reload job timed out in systemd",
	"dependency":        "a unit that this one depends on failed",
	"skipped":           "systemd skipped the reload job",
	"invalid":           "the unit is not running, so there is nothing to reload",
	resultInvalidName:   "this is not the name of a service unit",
	resultNoSuchUnit:    "systemd knows no unit of this name",
	resultMasked:        "the unit is masked",
	resultNotLoaded:     "systemd could not load the unit's file",
	resultInactive:      "the unit is not active",
	resultNotReloadable: "the unit cannot be reloaded: it is masked or has no ExecReload",
	resultDenied:        "this process may not reload the unit",
	resultNoBus:         "the D-Bus system bus cannot be reached",
	resultNoSystemd:     "systemd does not answer on the system bus",
	resultLost:          "the D-Bus connection was lost while waiting, so the result is unknown",
	resultDeadline:      "the reload was not finished in time; it may still be going on",
	resultInterrupted:   "waiting for the reload was interrupted; it may still be going on",
	resultRefused:       "systemd refused the request",
}

// Error says which unit, what happened and what systemd said about it.
func (e *Error) Error() string {
	reason, ok := reasons[e.Result]
	if !ok {
		reason = fmt.Sprintf("the reload job ended as %s", quote(e.Result))
	}
	what := "reloading"
	if e.Unit == "" {
		what = "connecting to systemd"
	} else if checkOnly := checkName(e.Unit); checkOnly != nil {
		what = "reloading " + quote(e.Unit)
	} else {
		what += " " + e.Unit
	}
	if e.Text != "" {
		return fmt.Sprintf("%s: %s: %s", what, reason, quote(e.Text))
	}
	return fmt.Sprintf("%s: %s", what, reason)
}

// Unwrap gives the context's error for deadline and interrupted.
func (e *Error) Unwrap() error { return e.cause }

// Kind is the result: of the job, failed, canceled, timeout, dependency, skipped or invalid (not running); of the
// request, invalid-name, no-such-unit, masked, not-loaded, inactive, not-reloadable, access-denied or refused; of the
// way there, bus-away, systemd-away, bus-lost, deadline or interrupted.
func (e *Error) Kind() string { return e.Result }

// Temporary tells whether the same request may succeed later without anybody doing something.
func (e *Error) Temporary() bool {
	return slices.Contains([]string{"canceled", "timeout", resultNoBus, resultNoSystemd, resultLost, resultDeadline, resultInterrupted}, e.Result)
}

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Result {
	case resultInvalidName:
		return "write the full name of a service, such as exim4.service"
	case resultNoSuchUnit:
		return "list the units with: systemctl list-units --type=service"
	case resultMasked, resultNotLoaded:
		return "look at it with: systemctl status " + e.Unit
	case resultInactive, "invalid":
		return fmt.Sprintf("start the mail server (systemctl start %s); mxcert never does that", e.Unit)
	case resultNotReloadable:
		return fmt.Sprintf("is it the right unit? systemctl show -p CanReload,LoadState %s (Postfix on Debian: postfix@-.service)", e.Unit)
	case resultDenied:
		return "allow it by a file in /etc/polkit-1/rules.d (polkitd must be installed): " + e.rule()
	case resultNoBus, resultNoSystemd:
		return "is this host run by systemd with dbus installed? In a container or with another init use reload: never and a hook"
	case "failed", "timeout", resultDeadline:
		return fmt.Sprintf("see why: journalctl -u %s%s", e.Unit, e.selfTest())
	}
	return "look at it with: systemctl status " + e.Unit
}

// rule is the narrowest polkit rule that lets this user reload this unit.
func (e *Error) rule() string {
	name := "mxcert"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return fmt.Sprintf(`polkit.addRule(function(action, subject) { if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == %q && action.lookup("unit") == %q && action.lookup("verb") == "reload") return polkit.Result.YES; });`, name, e.Unit)
}

// selfTest is the command by which a mail server checks its own configuration.
func (e *Error) selfTest() string {
	switch {
	case strings.HasPrefix(e.Unit, "exim"):
		return "; Exim checks its configuration with: exim4 -bV"
	case strings.HasPrefix(e.Unit, "postfix"):
		return "; Postfix checks its configuration with: postfix check"
	case strings.HasPrefix(e.Unit, "dovecot"):
		return "; Dovecot checks its configuration with: doveconf -n"
	}
	return ""
}

// failure translates what a call returned.
func failure(unit string, err error) *Error {
	e := &Error{Unit: unit, Result: resultRefused, Text: err.Error(), cause: err}
	var remote dbus.Error
	var network *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Result, e.Text = resultDeadline, ""
	case errors.Is(err, context.Canceled):
		e.Result, e.Text = resultInterrupted, ""
	case errors.As(err, &remote):
		e.Result = resultOf(remote.Name)
	case errors.Is(err, dbus.ErrClosed), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.As(err, &network):
		e.Result, e.Text = resultLost, ""
	}
	return e
}

// resultOf translates the names that systemd (org.freedesktop.systemd1(5)) and the bus give to errors.
func resultOf(name string) string {
	switch name {
	case "org.freedesktop.systemd1.NoSuchUnit":
		return resultNoSuchUnit
	case "org.freedesktop.systemd1.UnitMasked":
		return resultMasked
	case "org.freedesktop.systemd1.LoadFailed", "org.freedesktop.systemd1.BadUnitSetting":
		return resultNotLoaded
	case "org.freedesktop.systemd1.JobTypeNotApplicable":
		return resultNotReloadable
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return resultDenied
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.TimedOut":
		return resultNoSystemd
	case "org.freedesktop.DBus.Error.Disconnected":
		return resultLost
	}
	return resultRefused
}

// connectFailure is a failure before there was a unit to speak of.
func connectFailure(err error) *Error {
	e := failure("", err)
	if e.Result == resultRefused || e.Result == resultLost {
		e.Result, e.Text = resultNoBus, err.Error()
	}
	return e
}

// quote makes foreign text harmless in a message: quoted and short.
func quote(text string) string {
	const most = 200
	if len(text) > most {
		return fmt.Sprintf("%q…", text[:most])
	}
	return fmt.Sprintf("%q", text)
}

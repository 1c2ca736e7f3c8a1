package unit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"mxcert/acme/finding"
)

// mostText is how much of a text from systemd or the bus is quoted, in bytes.
const mostText = 200

// These are the results of an [Error], in addition to the other results of systemd's own jobs.
const (
	resultInvalid       = "invalid" // of a job: the unit is not active
	resultInvalidName   = "invalid-name"
	resultNoSuchUnit    = "no-such-unit"
	resultMasked        = "masked"
	resultNotLoaded     = "not-loaded"
	resultInactive      = "inactive"
	resultNotReloadable = "not-reloadable"
	resultDenied        = "access-denied"
	resultNoBus         = "bus-away"
	resultNoSystemd     = "systemd-away"
	resultNotBooted     = "no-systemd"
	resultLost          = "bus-lost"
	resultDeadline      = "deadline"
	resultInterrupted   = "interrupted"
	resultRefused       = "refused"
)

// Error says why a unit was not reloaded, or why its state could not be read.
type Error struct {
	Unit   string
	Result string // see Kind
	Text   string // what systemd or the bus said, if anything; foreign text
	cause  error
}

// Error says which unit it was, what happened, and what systemd said about it.
func (e *Error) Error() string {
	name := e.Unit
	if e.Result == resultInvalidName {
		name = finding.Quoted(name, mostText)
	}
	if e.Text != "" {
		return fmt.Sprintf("unit %s: %s: %s", name, e.reason(), finding.Quoted(e.Text, mostText))
	}
	return fmt.Sprintf("unit %s: %s", name, e.reason())
}

// reason returns one sentence for each result.
func (e *Error) reason() string {
	switch e.Result {
	case "failed":
		return "the reload command failed or took too long for systemd"
	case "canceled":
		return "the reload job was cancelled, the unit was probably stopped meanwhile"
	case "timeout":
		return "the reload job timed out in systemd"
	case "dependency":
		return "a unit that this one depends on failed"
	case "skipped":
		return "systemd skipped the reload job"
	case resultInvalid:
		return "it is not running, so there is nothing to reload"
	case resultInvalidName:
		return "this is not the name of a service unit"
	case resultNoSuchUnit:
		return "systemd knows no unit of this name"
	case resultMasked:
		return "it is masked"
	case resultNotLoaded:
		return "systemd could not load its file"
	case resultInactive:
		return "it is not active"
	case resultNotReloadable:
		return "it cannot be reloaded: it has no ExecReload, or is masked"
	case resultDenied:
		return "this process may not reload it"
	case resultNoBus:
		return "the D-Bus system bus cannot be reached"
	case resultNoSystemd:
		return "systemd does not answer on the system bus"
	case resultNotBooted:
		return "this host or container is not run by systemd, so mxcert cannot reload a unit"
	case resultLost:
		return "the D-Bus connection was lost while waiting, so the result is unknown"
	case resultDeadline:
		return "there was no result in time; a reload may still be going on"
	case resultInterrupted:
		return "waiting for the result was interrupted; a reload may still be going on"
	case resultRefused:
		return "systemd refused the request"
	}
	return fmt.Sprintf("the reload job ended as %s", finding.Quoted(e.Result, mostText))
}

// Unwrap returns the context's error for the results deadline and interrupted.
func (e *Error) Unwrap() error { return e.cause }

// Kind returns the result. For the job: failed, canceled, timeout, dependency, skipped or invalid (not running). For the request:
// invalid-name, no-such-unit, masked, not-loaded, inactive, not-reloadable, access-denied or refused. For the connection: bus-away,
// systemd-away, no-systemd, bus-lost, deadline or interrupted.
func (e *Error) Kind() string { return e.Result }

// NotRunning reports whether systemd has said that a unit is not active. Only the administrator can change that. If several errors are
// joined, all of them have to say so.
func NotRunning(err error) bool {
	switch e := err.(type) { //nolint:errorlint // errors.As would be satisfied if one of several errors says so
	case *Error:
		return e.Result == resultInactive || e.Result == resultInvalid
	case interface{ Unwrap() error }:
		return NotRunning(e.Unwrap())
	case interface{ Unwrap() []error }:
		list := e.Unwrap()
		return len(list) > 0 && !slices.ContainsFunc(list, func(err error) bool { return !NotRunning(err) })
	}
	return false
}

// Misconfigured reports whether a unit cannot be reloaded until somebody changes it or the configuration. There is no such unit, it is
// masked, its file has a mistake, it has no ExecReload, or the name is not the name of a service.
func Misconfigured(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains([]string{resultNoSuchUnit, resultMasked, resultNotLoaded, resultNotReloadable, resultInvalidName}, e.Result)
}

// Away reports whether there was nobody to ask: no D-Bus, or no systemd on it. Nothing can be reloaded then.
func Away(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && slices.Contains([]string{resultNoBus, resultNoSystemd, resultNotBooted}, e.Result)
}

// Temporary reports whether the same request may succeed later even if nobody changes anything.
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
	case resultMasked:
		return fmt.Sprintf("an administrator has masked it, so that it never starts; to undo that: systemctl unmask %s (systemctl status %[1]s says where it is masked)", e.Unit)
	case resultNotLoaded:
		return "look at it with: systemctl status " + e.Unit
	case resultInactive, resultInvalid:
		return fmt.Sprintf("start the mail server (systemctl start %s); mxcert never does that", e.Unit)
	case resultNotReloadable:
		return fmt.Sprintf("is it the right unit? systemctl show -p CanReload,LoadState %s (Postfix on Debian: postfix@-.service)", e.Unit)
	case resultDenied:
		return "allow it by a file in /etc/polkit-1/rules.d (polkitd must be installed): " + e.rule()
	case resultNoBus, resultNoSystemd:
		return "is dbus installed, and does it run? systemctl status dbus"
	case resultNotBooted:
		return `write unit: "" in that target, and reload the mail server by a hook in deploy.d: see "A mail server in a container" in mxcert(7)`
	case "failed", "timeout", resultDeadline:
		return fmt.Sprintf("see why: journalctl -u %s%s", e.Unit, e.selfTest())
	}
	return "look at it with: systemctl status " + e.Unit
}

// rule returns the narrowest polkit rule that allows this user to reload this unit.
func (e *Error) rule() string {
	name := ServiceUser
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil { // user.Current remembers who this process was
		name = u.Username
	}
	return fmt.Sprintf(`polkit.addRule(function(action, subject) { if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == %q && action.lookup("unit") == %q && action.lookup("verb") == "reload") return polkit.Result.YES; }); or let mxcert write it: mxcert polkit --install`, name, e.Unit)
}

// selfTest returns the command with which a mail server checks its own configuration.
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

// certain reports whether the reason is the state of the unit, not the connection to systemd.
func (e *Error) certain() bool {
	return slices.Contains([]string{resultNoSuchUnit, resultMasked, resultNotLoaded, resultInactive, resultNotReloadable}, e.Result)
}

// failure translates the error of a call or of the connection. It checks ctx first: the end of ctx closes the connection, which can look
// like any error.
func failure(ctx context.Context, unit string, err error) *Error {
	e := &Error{Unit: unit, Result: resultRefused, Text: err.Error(), cause: err}
	if ctx.Err() != nil {
		e.Result, e.Text, e.cause = resultDeadline, "", ctx.Err()
		if errors.Is(ctx.Err(), context.Canceled) {
			e.Result = resultInterrupted
		}
		return e
	}
	var remote dbus.Error
	var network *net.OpError
	var connecting *connectError
	switch {
	case errors.As(err, &remote):
		e.Result = resultOf(remote.Name, e.Text)
	case errors.As(err, &connecting) && !booted():
		e.Result, e.Text = resultNotBooted, ""
	case errors.As(err, &connecting):
		e.Result = resultNoBus
	case errors.Is(err, errLost), errors.Is(err, dbus.ErrClosed), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.As(err, &network):
		e.Result, e.Text = resultLost, ""
	}
	return e
}

// booted reports whether systemd runs this host (sd_booted(3)), or whether somebody says where there is a bus.
func booted() bool {
	_, err := os.Lstat("/run/systemd/system")
	return err == nil || os.Getenv("DBUS_SYSTEM_BUS_ADDRESS") != ""
}

// resultOf translates the names of errors that systemd (org.freedesktop.systemd1(5)) and the bus use.
func resultOf(name, text string) string {
	if strings.HasPrefix(name, "org.freedesktop.systemd1.") && strings.Contains(text, "polkit.service") {
		return resultDenied // polkit is masked or missing, not the unit
	}
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

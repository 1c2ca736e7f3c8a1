package script

import (
	"fmt"

	"mxcert/acme/finding"
)

// mostSaid limits how much of a hook's output appears in an error, in bytes.
const mostSaid = 200

// Error says why a hook did not do its work, or why hooks could not be run.
type Error struct {
	Hook   string // the path of the hook or of the directory
	kind   string
	reason string
	said   string // the last line of its output
	cause  error
}

// Error says which hook failed, why, and what it printed last. It quotes and shortens the output.
func (e *Error) Error() string {
	if e.said != "" {
		return fmt.Sprintf("hook %s: %s; it said %s", e.Hook, e.reason, finding.Quoted(e.said, mostSaid))
	}
	return fmt.Sprintf("hook %s: %s", e.Hook, e.reason)
}

// Unwrap returns the error of the system, such as an *exec.ExitError, or the context's.
func (e *Error) Unwrap() error { return e.cause }

// Kind is one of failed (it ended with another status than 0, or by a signal), timeout, canceled, cannot-start,
// unsafe (other users could write it) and unreadable.
func (e *Error) Kind() string { return e.kind }

// Temporary reports whether it makes sense to run the same hook again at the next pass.
func (e *Error) Temporary() bool {
	return e.kind == "failed" || e.kind == "timeout" || e.kind == "canceled"
}

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.kind {
	case "unsafe":
		return fmt.Sprintf("whoever can write it gets the rights of mxcert: chown root: %[1]s; chmod go-w %[1]s", e.Hook)
	case "cannot-start":
		return "does the first line name an interpreter that exists, such as #!/bin/sh, and is the file system mounted without noexec?"
	case "unreadable":
		return "look at its owner and mode: namei -l " + e.Hook
	case "timeout":
		return "make it faster, let it start long work with systemd-run, or raise hooks.timeout"
	case "canceled":
		return "it is run again at the next pass"
	}
	return "its output says more; it is run again at the next pass"
}

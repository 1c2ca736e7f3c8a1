package cli

import (
	"context"
	"errors"
	"io/fs"

	"mxcert/acme/state"
	"mxcert/configs"
)

// Exit codes, part of the contract with scripts. 75, 77 and 78 are those of sysexits(3).
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitFault        = 3 // verify, doctor or check found a fault
	exitSome         = 4 // some certificates failed, others did not
	exitNotInService = 5 // issued, but the deployment failed or was taken back
	exitChanged      = 10
	exitTemporary    = 75
	exitPermission   = 77
	exitConfig       = 78
)

// The errors of all rooms may tell more than their text. main knows none of their types, only these questions.
type (
	hinter    interface{ Hint() string }
	kinder    interface{ Kind() string }
	temporary interface{ Temporary() bool }
)

// cutShort says how the context of a command ended, where that is why it failed; "" otherwise.
func cutShort(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return ""
}

func hintOf(err error) string {
	if h, ok := errors.AsType[interface {
		error
		hinter
	}](err); ok {
		return h.Hint()
	}
	if cutShort(err) != "" {
		return "what was begun is kept: run it again, with a longer --timeout if it was too short"
	}
	return ""
}

func kindOf(err error) string {
	if k, ok := errors.AsType[interface {
		error
		kinder
	}](err); ok && k.Kind() != "" {
		return k.Kind()
	}
	if errors.Is(err, state.ErrLocked) {
		return "locked"
	}
	if how := cutShort(err); how != "" {
		return how
	}
	return "error"
}

func isTemporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		temporary
	}](err)
	return (ok && t.Temporary()) || errors.Is(err, state.ErrLocked) || cutShort(err) != ""
}

// exitError carries an exit code beside an error that has already been shown, or is to be shown.
type exitError struct {
	code int
	err  error // nil: the report has said everything
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitCodeOf chooses the code for an error that reached main.
func exitCodeOf(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	_, badConfig := errors.AsType[*configs.Problems](err)
	switch {
	case errors.Is(err, fs.ErrPermission) || kindOf(err) == "permission":
		return exitPermission
	case badConfig:
		return exitConfig
	case isTemporary(err):
		return exitTemporary
	}
	return exitFailed
}

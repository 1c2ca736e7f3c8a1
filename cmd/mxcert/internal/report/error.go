package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Error says what failed and what to do.
type Error struct {
	Stage   string `json:"stage"` // the step of the pass
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`

	Publish []string `json:"publish,omitempty"` // TLSA records that have to be published first, each a line of a zone file

	Order string `json:"-"` // URL of the order that failed; "" if there was none
}

// The errors of all rooms may say more than their text. This room does not know their types, only these methods: Hint returns
// what to do, Kind a stable word for programs, and Stage the step of a pass in which the error happened; Temporary reports
// whether the same may succeed later, and Records returns TLSA records that have to be published first.

// KindConfiguration is the kind of the errors in a bad configuration file; their exit code is 78.
const KindConfiguration = "configuration"

// HintOf returns what to do about an error, or "" if the error does not say.
func HintOf(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	if cutShort(err) != "" {
		return "nothing is lost: run it again, with a longer --timeout if it was too short"
	}
	return ""
}

// KindOf returns the stable word for an error; "error" if the error has no other.
func KindOf(err error) string {
	if k, ok := errors.AsType[interface {
		error
		Kind() string
	}](err); ok && k.Kind() != "" {
		return k.Kind()
	}
	if how := cutShort(err); how != "" {
		return how
	}
	return "error"
}

// IsTemporary reports whether the same may succeed later without a person's help.
func IsTemporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return (ok && t.Temporary()) || cutShort(err) != ""
}

// cutShort says how the context of a command ended, if the command failed for that reason; otherwise "".
func cutShort(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return ""
}

// CodeOf returns the exit code for an error that ends a command, or CodeOK for nil.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	if e, ok := errors.AsType[*Exit](err); ok {
		return e.Code
	}
	kind := KindOf(err)
	switch {
	case errors.Is(err, fs.ErrPermission) || kind == "permission":
		return CodePermission
	case kind == KindConfiguration:
		return CodeConfig
	case IsTemporary(err):
		return CodeTemporary
	}
	return CodeFailed
}

// staged is an error with the step of the pass in which it happened.
type staged struct {
	stage string
	err   error
}

func (e *staged) Error() string { return e.err.Error() }
func (e *staged) Unwrap() error { return e.err }

// At marks an error with its step, unless it is marked already; nil stays nil.
func At(stage string, err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*staged](err); done {
		return err
	}
	return &staged{stage: stage, err: err}
}

// StageOf returns the step that an error was marked with, else the one that the error itself names; "" if it has neither.
func StageOf(err error) string {
	if e, ok := errors.AsType[*staged](err); ok {
		return e.stage
	}
	if e, ok := errors.AsType[interface {
		error
		Stage() string
	}](err); ok {
		return e.Stage()
	}
	return ""
}

// NewError describes an error.
func NewError(err error) *Error {
	e := &Error{Stage: StageOf(err), Kind: KindOf(err), Message: once(err.Error()), Hint: HintOf(err), Publish: recordsOf(err)}
	if o, ok := errors.AsType[interface {
		error
		Order() string
	}](err); ok {
		e.Order = o.Order()
	}
	if how := cutShort(err); how != "" && e.Kind == how {
		e.Message = fmt.Sprintf("%s at the step %q: %s", how, e.Stage, e.Message)
	}
	return e
}

// recordsOf lists the TLSA records that an error asks for, or several that are joined.
func recordsOf(err error) (records []string) {
	switch e := err.(type) { //nolint:errorlint // it looks at every error of the tree
	case interface{ Records() []string }:
		return e.Records()
	case interface{ Unwrap() error }:
		return recordsOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			for _, record := range recordsOf(one) {
				if !slices.Contains(records, record) {
					records = append(records, record)
				}
			}
		}
	}
	return records
}

// once removes repeated lines: two files of one directory may have the same fault.
func once(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

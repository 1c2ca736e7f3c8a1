package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"mxcert/deploy"
)

// The kinds of error.
const (
	kindDiscovery  = "discovery"
	kindPermission = "permission"
	kindNotRead    = "not-read"
	kindBroken     = "broken-configuration"
	kindRefused    = "refused-by-server"
	kindProxied    = "proxy-protocol"
)

// Error says why a mail server could not be asked (then Err is set), or what is wrong with its answer.
type Error struct {
	Program string // that was asked; "" if the answers of several were compared
	Args    []string
	Said    string // the program's output: foreign text
	Err     error  // why the program could not be asked; nil for an objection

	kind, text, hint string // of an objection
	unwritten        bool   // the server does not read a file that does not exist
}

// Error says what the server objects to. If a program failed, it says which one, why, and what it printed.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.text
	}
	text := fmt.Sprintf("%s: %v", e.command(), e.Err)
	if e.Said != "" {
		text += ": " + quote(e.Said)
	}
	return text
}

func (e *Error) command() string {
	return strings.TrimSpace(e.Program + " " + strings.Join(e.Args, " "))
}

// Unwrap returns why the program could not be asked.
func (e *Error) Unwrap() error { return e.Err }

// Kind is one of
//
//   - discovery, permission: the program could not be asked
//   - not-read: the server reads other files than those that are to be written
//   - broken-configuration: the server could not be reloaded
//   - refused-by-server: Exim would not serve the new files
//   - proxy-protocol: an endpoint takes connections only from a proxy
func (e *Error) Kind() string {
	switch {
	case e.Err == nil:
		return e.kind
	case errors.Is(e.Err, fs.ErrPermission):
		return kindPermission
	}
	return kindDiscovery
}

// Hint says what to do next.
func (e *Error) Hint() string {
	if e.Err == nil {
		return e.hint
	}
	return "run it yourself and read its answer: " + e.command()
}

// mismatch says that the server reads other files than those that mxcert would write. name is the name that a client asks for, or "" for a
// map.
func (s *Server) mismatch(wants, name string, targets []deploy.Target, paths ...string) error {
	return &Error{kind: kindNotRead, unwritten: slices.ContainsFunc(paths, missing), text: fmt.Sprintf("%s does not read %s: it reads %s", serverName(s.Kind), wants, s.text(name)),
		hint: s.advise(targets) + "; or write `unchecked: true` into the target"}
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

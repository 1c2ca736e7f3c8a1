package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kinds of error.
const (
	kindPermission = "permission"
	kindDiskFull   = "disk-full"
	kindReadOnly   = "read-only"
	kindMissing    = "missing-directory"
	kindRefused    = "refused"
	kindUnreadable = "unreadable"
	kindLonger     = "longer-lived"
	kindFiles      = "files"
)

// Error is a failure at one path.
type Error struct {
	Op, Path string
	Err      error
}

// fault is a cause that the package itself has found. It knows its kind and what to do next.
type fault struct {
	kind, text string
	hint       string // PATH stands for the path
}

func (f *fault) Error() string { return f.text }

func refusal(text, hint string) error { return &fault{kind: kindRefused, text: text, hint: hint} }

// These faults refuse to replace what lies at a path. The path stays as it is.
const (
	anotherPath = "remove it, or configure another path"
	moveAway    = "move it away first, or configure another path"
)

var (
	errSymlink        = refusal("it is a symbolic link; mxcert replaces files, and would replace the link", "configure the path that it points to, or remove it")
	errNoLink         = refusal("it is a file or a directory; mxcert puts a symbolic link to a generation there", moveAway)
	errLeadsElsewhere = refusal("it is a symbolic link that leads elsewhere, not to a generation that mxcert made", moveAway)
	errNotDirectory   = refusal("it is not a directory", anotherPath)
	errNotRegular     = refusal("it is not a regular file", anotherPath)
	errHardLink       = refusal("it has more than one hard link; replacing it would leave the other name with the old content", anotherPath)
	errTooLarge       = refusal("it is larger than any certificate or key", anotherPath)
	errWorldWritable  = refusal("every user may write into this directory, and could put a key of their own there", "take that right away (chmod o-w PATH), or configure a path elsewhere")

	errMapOwner = refusal("root compiles this map (postmap -F), and reads each file that it names; only root may own it", "give it to root (chown root PATH), and remove `owner` from the deploy section")

	errChanging        = errors.New("another program is replacing it at this moment")
	errNothingCompiled = errors.New("postmap has made no file")
	errNotCompiled     = errors.New("postmap has left out the lines of the certificate: does this type of table take files (postmap -F)?")
)

// foreign refuses a file or directory of a user that the target does not trust.
func foreign(what string, uid int) error {
	name := userName(uid)
	return refusal(fmt.Sprintf("%s belongs to the user %s, who could put a key of their own there", what, name),
		fmt.Sprintf("give it to root (chown root PATH), or, if this is intended, write `owner: %s` in the deploy section", name))
}

// Error says what mxcert tried, where, and why it failed: the system's message with the name of its error (errno(3)).
func (e *Error) Error() string {
	text := fmt.Sprintf("cannot %s %s: %v", e.Op, e.Path, plain(e.Err))
	if number, ok := errors.AsType[syscall.Errno](e.Err); ok && unix.ErrnoName(number) != "" {
		text += " (" + unix.ErrnoName(number) + ")"
	}
	return text
}

// plain removes the path from an error of package os. The message already has the path, and the one in the error may be that of a temporary
// file.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok && p.Error() == err.Error() {
		return p.Err
	}
	if p, ok := errors.AsType[*os.LinkError](err); ok && p.Error() == err.Error() {
		return p.Err
	}
	return err
}

// Unwrap returns the cause, so that callers can test for fs.ErrPermission.
func (e *Error) Unwrap() error { return e.Err }

// Kind is one of
//
//   - permission, disk-full, read-only, missing-directory: the system refused
//   - refused: what lies at the path must not be replaced, or others could replace it
//   - unreadable: the mail server may not read the path
//   - longer-lived: the certificate in service ends later than the one that would replace it
//   - files: anything else
func (e *Error) Kind() string {
	if f, ok := errors.AsType[*fault](e.Err); ok {
		return f.kind
	}
	switch {
	case errors.Is(e.Err, fs.ErrPermission):
		return kindPermission
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		return kindDiskFull
	case errors.Is(e.Err, syscall.EROFS):
		return kindReadOnly
	case errors.Is(e.Err, fs.ErrNotExist):
		return kindMissing
	}
	return kindFiles
}

// Hint says what to do.
func (e *Error) Hint() string {
	if f, ok := errors.AsType[*fault](e.Err); ok {
		return strings.ReplaceAll(f.hint, "PATH", e.Path)
	}
	switch e.Kind() {
	case kindPermission:
		return "run mxcert as a user that may write there (root, or the owner of the directory); an immutable file shows in lsattr"
	case kindDiskFull:
		return "make room on that file system (df -h)"
	case kindReadOnly:
		return "the file system is mounted read-only (findmnt -T " + e.Path + ")"
	case kindMissing:
		return "create the directory first, so that its owner and group are your decision: install -d -m 2750 -g GROUP DIRECTORY"
	}
	if missing, ok := errors.AsType[*exec.Error](e.Err); ok {
		return fmt.Sprintf("install Postfix, whose program %s is needed for sni_map, or remove sni_map", missing.Name)
	}
	if e.Op == opSync {
		return "the new files are in place, but a power cut may bring the old ones back: look for faults of the disk (dmesg), then deploy again"
	}
	return "the files that were there before are untouched"
}

// opSync is the only operation that fails after the new files are in place.
const opSync = "sync"

// halfDone is a failed deployment that could not put everything back: some of the files are new, others old or missing.
type halfDone struct{ error }

// Unwrap returns what failed, first of all the change that had to be undone.
func (e *halfDone) Unwrap() error { return e.error }

// Hint says what to do.
func (e *halfDone) Hint() string {
	return "some of these files are new, others old or missing, so the mail server may refuse TLS: look for faults of the disk (dmesg, findmnt), then deploy again, which completes the change"
}

// undone adds what could not be put back to the cause of a failure.
func undone(cause, problems error) error {
	if problems == nil {
		return cause
	}
	return &halfDone{errors.Join(cause, problems)}
}

// wrap adds what was tried and where, unless the error says so already; nil stays nil.
func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*Error](err); done {
		return err
	}
	return &Error{Op: op, Path: path, Err: err}
}

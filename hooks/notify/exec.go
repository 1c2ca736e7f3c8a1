package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"mxcert/acme/finding"
	"mxcert/hooks/run"
	"mxcert/hooks/script"
)

const (
	programTime  = 30 * time.Second // for one message
	programGrace = 2 * time.Second  // between SIGTERM and SIGKILL
)

// program hands messages to a program of the administrator.
type program struct {
	name, path string
}

// NewExec returns a channel that runs a program for each message. The program gets the message as JSON on standard input, and the variables
// MXCERT_EVENT, MXCERT_HOST and MXCERT_SUBJECT. Package run describes how it runs. It must belong to root, or to the user of this process,
// and nobody else may write it.
func NewExec(name, path string) Channel { return &program{name: name, path: path} }

func (p *program) Name() string { return p.name }

// Send runs the program. It succeeds if the program ends with status 0.
func (p *program) Send(ctx context.Context, m Message) error {
	if err := CheckProgram(p.path); err != nil {
		return err
	}
	m = m.Clean()
	input, err := json.Marshal(m)
	if err != nil {
		return &Error{message: "the message cannot be written as JSON: " + err.Error(), kind: Setting, hint: "this is a fault of mxcert: please report it"}
	}
	output, err := run.Command{Program: p.path, Env: []string{"MXCERT_EVENT=" + string(m.Event), "MXCERT_HOST=" + m.Host, "MXCERT_SUBJECT=" + m.Subject}, Dir: "/",
		Input: input, Timeout: programTime, Grace: programGrace, Join: true}.Run(ctx)
	if err != nil {
		return failed(p.path, output, err, "run it by hand: echo '{}' | "+finding.Word(p.path))
	}
	return nil
}

// Probe tests whether the program can be run, without running it.
func (p *program) Probe(context.Context, bool) error { return CheckProgram(p.path) }

// failed explains why a program did not take a message.
func failed(path string, output run.Output, err error, hint string) error {
	e := &Error{message: fmt.Sprintf("%s: %v", path, err), kind: Program, hint: hint, cause: contextOf(err)}
	if output.Last != "" {
		e.message += "; it said " + finding.Quoted(output.Last, mostSaid)
	}
	if stopped, ok := errors.AsType[*run.Error](err); ok {
		e.temporary = stopped.Temporary()
	}
	return e
}

// CheckProgram finds out whether a program can be run, and whether only root and the user of this process can write it: whoever can write it
// gets the rights with which it runs.
func CheckProgram(path string) error {
	info, err := os.Stat(path) // follows a symbolic link, because its target would run
	bad := func(hint, format string, values ...any) error {
		return &Error{message: path + " " + fmt.Sprintf(format, values...), kind: Program, hint: hint, cause: sentinelOf(err)}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad("install the program, or correct the path", "does not exist")
	case err != nil:
		return bad("look at its owner and mode: namei -l "+finding.Word(path), "cannot be looked at: %v", reasonOfPath(err))
	case !info.Mode().IsRegular():
		return bad("name a program", "is not a regular file")
	case info.Mode().Perm()&0o111 == 0:
		return bad("chmod +x "+finding.Word(path), "is not executable")
	}
	if reason := script.Unsafe(info); reason != "" {
		return bad(fmt.Sprintf("whoever can write it gets the rights with which it runs: chown root %[1]s; chmod go-w %[1]s", finding.Word(path)), "%s", reason)
	}
	return nil
}

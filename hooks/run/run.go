// Package run runs a program of the host to its end, and leaves no process of it behind.
//
// A program gets [Path], LANG and the variables of its caller. It gets nothing of mxcert's own environment, which may hold the secrets of a
// DNS provider. It runs without a shell, in its own session, for a limited time. When the time is up, or the context ends, its process group
// gets SIGTERM and is then killed. When the program ends, run kills every process that is left in its group, at once or after [Command.After].
// Only a process that has made another session (setsid), or has become another user whom mxcert has no right to signal, can outlive a call, and
// mxcert does not wait for it. If a child has to outlive its program, start it with systemd-run.
//
// Run keeps a program's output up to a limit. It reads and drops the rest, so that the program never blocks on its output. The output is
// foreign text: package finding says how to quote it.
//
// Not done here: other users, name spaces, limits of memory, terminals, pipes between programs.
package run

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"syscall"
	"time"
)

// Path is where a program finds other programs, as a value of PATH.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultKeep is how much of each output is kept unless the caller says otherwise.
const defaultKeep = 64 << 10

// linger is how long a killed process may take to disappear. It is also how long output is read after the program has ended.
const linger = 2 * time.Second

// Command is a program with everything that it is given.
type Command struct {
	// Program is a path, or a name that is searched in mxcert's own PATH.
	Program string
	Args    []string // without the program's name
	// Env holds variables ("NAME=value") in addition to PATH=[Path] and LANG=C.UTF-8. They override these two.
	Env   []string
	Dir   string // the directory it runs in; "" is mxcert's own directory
	Input []byte // its standard input

	Timeout time.Duration // required
	Grace   time.Duration // between SIGTERM and SIGKILL; 0 kills at once
	After   time.Duration // how long what it has started may go on in its group after its end; 0 kills at once

	// Until stops the program, without an error, as soon as the kept part of its standard output has this text; "" never does. It is for a
	// program that goes on although it has said all that the caller wants to know. Run does not wait for a program that it may not kill.
	Until string

	Keep int  // bytes of each output that are kept; 0 means 64 KiB
	Join bool // standard error goes to Stdout too, in the order in which both were written
}

// Output is what a program printed: foreign text.
type Output struct {
	Stdout, Stderr string // the beginning of each
	Cut            bool   // one of them was longer
	// Last is the last line of standard error that is not blank, otherwise that of standard output. Programs usually say there why they
	// failed. Last is correct for an output of any length.
	Last string
}

// Run runs the program to its end. The output is valid even if there is an error, which is an [*Error].
func (c Command) Run(ctx context.Context) (Output, error) {
	if err := ctx.Err(); err != nil {
		return Output{}, c.stopped(ctx)
	}
	stdout, stderr := &capture{keep: cmp.Or(c.Keep, defaultKeep), until: c.Until, seen: make(chan struct{})}, &capture{keep: cmp.Or(c.Keep, defaultKeep)}
	// Not CommandContext: it kills only the process, not the group, and it kills nothing after the program has ended.
	command := exec.Command(c.Program, c.Args...) //nolint:noctx // see above
	command.Env = append([]string{"PATH=" + Path, "LANG=C.UTF-8"}, c.Env...)
	command.Dir = c.Dir
	command.Stdout, command.Stderr = stdout, stderr
	if c.Join {
		command.Stderr = stdout
	}
	if c.Input != nil {
		command.Stdin = bytes.NewReader(c.Input)
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without the terminal: what runs as another user must not type into it for root
	command.WaitDelay = linger
	if err := command.Start(); err != nil {
		return Output{}, c.notStarted(err)
	}
	err := c.supervise(ctx, command, stdout.seen)
	output := Output{Last: cmp.Or(stderr.lastLine(), stdout.lastLine())}
	var cut bool
	output.Stdout, output.Cut = stdout.text()
	output.Stderr, cut = stderr.text()
	output.Cut = output.Cut || cut
	return output, err
}

// supervise waits until the program has ended, has said enough, or has to be stopped. In all cases it kills the program's group. It reaps the
// process only after that, so that no other group can get the same number in between.
func (c Command) supervise(ctx context.Context, command *exec.Cmd, enough <-chan struct{}) error {
	pid, ended := command.Process.Pid, make(chan struct{})
	go func() {
		awaitEnd(pid)
		close(ended)
	}()
	limit, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var stopped error
	select {
	case <-ended:
		awaitGroup(pid, c.After, ctx.Done())
	case <-enough:
		c.ask(pid, ended)
	case <-limit.Done():
		stopped = c.stopped(ctx)
		c.ask(pid, ended)
	}
	patience := linger
	if syscall.Kill(-pid, syscall.SIGKILL) == syscall.EPERM { // it runs as another user by now, and this process may not kill it
		patience = 0
	}
	if !within(ended, patience) { // or it hangs in the kernel, and even SIGKILL does not end it
		go func() { _ = command.Wait() }() // reap it whenever it ends
		return stopped
	}
	err := command.Wait()
	select {
	case <-enough:
		return nil
	default:
	}
	if stopped != nil || err == nil || errors.Is(err, exec.ErrWaitDelay) { // the last: a process in another session holds the output
		return stopped
	}
	return c.fail(Failed, err)
}

// ask asks the program to end, and gives it time for that.
func (c Command) ask(pid int, ended <-chan struct{}) {
	if c.Grace > 0 {
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		within(ended, c.Grace)
	}
}

// awaitEnd waits until a child has ended. It does not reap the child.
func awaitEnd(pid int) {
	const onePID = 1 // P_PID of waitid(2)
	for {
		_, _, err := syscall.Syscall6(syscall.SYS_WAITID, onePID, uintptr(pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if err != syscall.EINTR {
			return
		}
	}
}

// within reports whether done was closed in time.
func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	}
	select { // both may have been
	case <-done:
		return true
	default:
		return false
	}
}

// The kinds of an [Error].
const (
	NotFound   = "not-found"    // there is no such program, or the interpreter in its first line is missing
	Permission = "permission"   // it may not be executed
	ExecFormat = "exec-format"  // it is neither a program nor does its first line name an interpreter
	NotStarted = "cannot-start" // the system refused it for another reason
	TimedOut   = "timeout"      // it was stopped after its time
	Canceled   = "canceled"     // it was stopped, or not started, because the context had ended
	Failed     = "failed"       // it ended with another exit status than 0, or by a signal that mxcert did not send
)

// Error says why a program did not do its work.
type Error struct {
	Program string
	kind    string
	reason  string
	err     error
}

// Error returns only the reason, such as "exit status 3": the caller knows best how to name what it ran.
func (e *Error) Error() string { return e.reason }

// Unwrap returns the cause: the error of the system, an *exec.Error or *exec.ExitError, or the context's.
func (e *Error) Unwrap() error { return e.err }

// Kind returns one of the constants of this package.
func (e *Error) Kind() string { return e.kind }

// Temporary reports whether the same call may succeed later.
func (e *Error) Temporary() bool {
	return e.kind == Failed || e.kind == TimedOut || e.kind == Canceled
}

// Is reports whether an error is an [*Error] of that kind.
func Is(err error, kind string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.kind == kind
}

func (c Command) fail(kind string, err error) *Error {
	return &Error{Program: c.Program, kind: kind, reason: err.Error(), err: err}
}

// stopped returns the error of a program that mxcert stopped.
func (c Command) stopped(ctx context.Context) *Error {
	if err := ctx.Err(); err != nil {
		return &Error{Program: c.Program, kind: Canceled, reason: "it was stopped because mxcert had to", err: err}
	}
	return &Error{Program: c.Program, kind: TimedOut, reason: fmt.Sprintf("it was stopped after %s", c.Timeout), err: context.DeadlineExceeded}
}

// notStarted explains an error of the system. Two of them mislead: ENOENT can also mean that an interpreter is missing, and ENOEXEC that a
// script names no interpreter.
func (c Command) notStarted(err error) *Error {
	e := c.fail(NotStarted, err)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		e.kind = NotFound
	case errors.Is(err, syscall.ENOENT):
		e.kind, e.reason = NotFound, "it does not exist, or the interpreter that its first line names does not"
	case errors.Is(err, syscall.ENOEXEC):
		e.kind, e.reason = ExecFormat, "it is neither a program nor does its first line name an interpreter"
	case errors.Is(err, fs.ErrPermission):
		e.kind = Permission
	}
	e.reason = "it cannot be started: " + e.reason
	return e
}

package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keep is how much output of a hook is kept.
	keep = 64 << 10
	// grace is the time between SIGTERM and SIGKILL.
	grace = 3 * time.Second
	// linger is how long a killed process may take to vanish, and how long output is read after the hook has ended.
	linger = 2 * time.Second
)

// execute runs one hook to its end.
func execute(ctx context.Context, path string, env []string, input []byte, timeout time.Duration) (o Outcome) {
	o.Hook = path
	start := time.Now()
	output := &capped{}
	// Not CommandContext: it kills the process, not the group, and only after it has been reaped.
	command := exec.Command(path) //nolint:noctx // see above
	command.Env, command.Dir = env, "/"
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.WaitDelay = linger
	if err := command.Start(); err != nil {
		o.Err = &Error{Hook: path, kind: "cannot-start", reason: startReason(err), cause: err}
		return o
	}
	verdict, gone := supervise(ctx, command.Process.Pid, timeout)
	if gone {
		err := command.Wait()
		o.LeftOver = errors.Is(err, exec.ErrWaitDelay)
		if verdict == nil && err != nil && !o.LeftOver {
			verdict = &Error{kind: "failed", reason: err.Error(), cause: err} // "exit status 1" or "signal: …"
		}
	} else {
		go func() { _ = command.Wait() }() // nothing can be done about it but to reap it some day
		o.LeftOver = true
	}
	o.Duration = time.Since(start)
	o.Output, o.Truncated = output.text()
	if verdict != nil {
		verdict.Hook, verdict.output = path, lastLine(o.Output)
		o.Err = verdict
	}
	return o
}

// supervise waits until a process has ended or has to be stopped, and kills its group in any case. The process is left
// to be reaped: until then its number cannot belong to another group. gone is false if it survived even SIGKILL, as a
// process that hangs in the kernel does.
func supervise(ctx context.Context, pid int, timeout time.Duration) (verdict *Error, gone bool) {
	ended := make(chan struct{})
	go func() {
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		close(ended)
	}()
	if !within(ended, timeout, ctx.Done()) {
		verdict = &Error{kind: "timeout", reason: fmt.Sprintf("it was stopped after %s", timeout), cause: context.DeadlineExceeded}
		if ctx.Err() != nil {
			verdict = &Error{kind: "canceled", reason: "it was stopped because mxcert had to", cause: ctx.Err()}
		}
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		within(ended, grace, nil)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	return verdict, within(ended, linger, nil)
}

// within tells whether done was closed in time and before stop.
func within(done <-chan struct{}, d time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	case <-stop:
	}
	return false
}

// capped keeps the beginning of what is written to it and takes the rest without keeping it.
type capped struct {
	mu      sync.Mutex
	kept    []byte
	dropped bool
}

// Write implements io.Writer. It never fails, so that the hook never blocks on its output.
func (c *capped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(p), keep-len(c.kept))
	c.kept = append(c.kept, p[:n]...)
	c.dropped = c.dropped || n < len(p)
	return len(p), nil
}

func (c *capped) text() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.kept), c.dropped
}

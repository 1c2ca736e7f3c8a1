package dnsprovider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// scriptGrace is the time between SIGTERM and SIGKILL, and how long output is read after the script has ended.
	scriptGrace = 2 * time.Second
	// scriptBegin is how much of the beginning of its output is kept: execve takes 128 KiB for a variable.
	scriptBegin = 64 << 10
	// scriptEnd is how much of the end of its output is kept for an error.
	scriptEnd = 2 << 10

	shell = "/bin/sh"
)

// script runs an operator's program, and waits for all that it has started in its process group. It sees PATH, HOME,
// LANG and dns.env: nothing else of mxcert's environment, in which another provider's secrets may be at that moment.
type script struct {
	provider string
	env      []string
	hidden   map[string]string // of which no value goes into an error
	limit    time.Duration
}

// newScript takes dns.env; the values of settings may go into errors.
func newScript(provider string, env map[string]string, limit time.Duration, settings ...string) script {
	hidden := maps.Clone(env)
	for _, name := range settings {
		delete(hidden, name)
	}
	all := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
	Undisturbed(func() {
		if home, ok := os.LookupEnv("HOME"); ok {
			all["HOME"] = home
		}
	})
	maps.Copy(all, env)
	return script{provider: provider, env: sortedAssignments(all), hidden: hidden, limit: limit}
}

// execution is one run for one record.
type execution struct {
	arguments []string // the program first
	env       []string // besides the script's
	op        string   // as in Error
	call      string   // for an error
	record    Record
	hint      string
}

// run gives what the program has written to its standard output, up to 64 KiB. A script without a first line that names
// an interpreter is one for /bin/sh. The error is an *Error or the context's.
func (s script) run(ctx context.Context, x execution) (string, error) {
	timed, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	stdout, stderr := &output{}, &output{}
	command := exec.CommandContext(timed, x.arguments[0], x.arguments[1:]...)
	command.Env = append(slices.Clone(s.env), x.env...)
	command.Stdout, command.Stderr = stdout, stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = scriptGrace
	err := command.Run()
	if timed.Err() != nil && command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what did not heed SIGTERM; usually nothing
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it is done, and left something running
		return string(stdout.begin), nil
	case errors.Is(err, syscall.ENOEXEC) && x.arguments[0] != shell:
		x.arguments = append([]string{shell}, x.arguments...)
		return s.run(ctx, x)
	case timed.Err() != nil:
		err = fmt.Errorf("it was stopped after %s", s.limit)
	}
	reason := fmt.Sprintf("%s: %v", x.call, err)
	if last := cmp.Or(stderr.lastLine(), stdout.lastLine()); last != "" {
		reason += fmt.Sprintf("; it said %.200q", last)
	}
	return "", &Error{Provider: s.provider, Op: x.op, What: recordText(x.record), Reason: capped(reason, s.hidden), ErrKind: "dns-update", temporary: true, NextStep: x.hint}
}

// output keeps the beginning and the end of what is written to it.
type output struct{ begin, end []byte }

// Write never fails, so that the program never blocks on its output.
func (o *output) Write(text []byte) (int, error) {
	o.begin = append(o.begin, text[:min(len(text), scriptBegin-len(o.begin))]...)
	o.end = append(o.end, text...)
	if extra := len(o.end) - scriptEnd; extra > 0 {
		o.end = append(o.end[:0], o.end[extra:]...)
	}
	return len(text), nil
}

func (o *output) lastLine() string {
	text := strings.TrimSpace(string(o.end))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

package run_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/hooks/run"
)

// shell is a command that runs a script.
func shell(script string) run.Command {
	return run.Command{Program: "/bin/sh", Args: []string{"-c", script}, Timeout: time.Minute}
}

// file writes a file that may be executed as its mode says.
func file(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	syscall.ForkLock.RLock() // a child that is forked now would hold the file open for writing: ETXTBSY
	err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode))
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// gone waits until a process that was killed is reaped by its new parent.
func gone(pid int) bool {
	for range 60_000 {
		if !alive(pid) {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func TestWhatItSees(t *testing.T) {
	t.Setenv("SECRET_OF_A_PROVIDER", "x")
	t.Setenv("LANG", "de_DE.UTF-8")
	for _, tt := range []struct {
		what      string
		env, want []string
	}{
		{"nothing given", nil, []string{"LANG=C.UTF-8", "PATH=" + run.Path}},
		{"one given", []string{"TOKEN=y z"}, []string{"LANG=C.UTF-8", "PATH=" + run.Path, "TOKEN=y z"}},
		{"its own", []string{"PATH=/opt/bin", "LANG=C"}, []string{"LANG=C", "PATH=/opt/bin"}},
	} {
		out, err := run.Command{Program: "/usr/bin/env", Env: tt.env, Timeout: time.Minute}.Run(t.Context())
		got := strings.Split(strings.TrimSpace(out.Stdout), "\n")
		slices.Sort(got)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: it sees %q, %v", tt.what, got, err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"": here, "/": "/"} {
		c := shell("pwd; cat")
		c.Dir, c.Input = dir, []byte("the input")
		if out, err := c.Run(t.Context()); err != nil || out.Stdout != want+"\nthe input" {
			t.Errorf("in %q: %q, %v", dir, out.Stdout, err)
		}
	}
	if out, err := shell("cat").Run(t.Context()); err != nil || out.Stdout != "" {
		t.Errorf("without input it reads %q, %v", out.Stdout, err)
	}
}

func TestOutput(t *testing.T) {
	for _, tt := range []struct {
		what, script string
		change       func(*run.Command)
		want         run.Output
	}{
		{"both kinds", "echo out; echo err >&2; echo more", nil, run.Output{Stdout: "out\nmore\n", Stderr: "err\n", Last: "err"}},
		{"joined", "echo out; echo err >&2; echo more", func(c *run.Command) { c.Join = true }, run.Output{Stdout: "out\nerr\nmore\n", Last: "more"}},
		{"none", "", nil, run.Output{}},
		{"blank lines at the end", "printf 'a\\n b \\n\\n \\n'", nil, run.Output{Stdout: "a\n b \n\n \n", Last: "b"}},
		{"as much as is kept", "printf 1234", func(c *run.Command) { c.Keep = 4 }, run.Output{Stdout: "1234", Last: "1234"}},
		{"more than that", "printf 12345", func(c *run.Command) { c.Keep = 4 }, run.Output{Stdout: "1234", Cut: true, Last: "12345"}},
		{"more errors than that", "printf 12345 >&2", func(c *run.Command) { c.Keep = 4 }, run.Output{Stderr: "1234", Cut: true, Last: "12345"}},
		{"a flood", "yes | head -c 100000000; echo; echo end", nil, run.Output{Stdout: strings.Repeat("y\n", 32<<10), Cut: true, Last: "end"}},
		{"input that nobody reads", "exec <&-; echo closed", func(c *run.Command) { c.Input = make([]byte, 1<<20) }, run.Output{Stdout: "closed\n", Last: "closed"}},
	} {
		c := shell(tt.script)
		if tt.change != nil {
			tt.change(&c)
		}
		if out, err := c.Run(t.Context()); err != nil || out != tt.want {
			t.Errorf("%s: %.100q and %.100q, cut %t, last %.100q, %v", tt.what, out.Stdout, out.Stderr, out.Cut, out.Last, err)
		}
	}
}

func TestErrors(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	isExit := func(err error) bool {
		e, ok := errors.AsType[*exec.ExitError](err)
		return ok && e.ExitCode() == 3
	}
	isName := func(err error) bool {
		e, ok := errors.AsType[*exec.Error](err)
		return ok && e.Name == "nosuchprogram"
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for _, tt := range []struct {
		what      string
		command   run.Command
		ctx       context.Context
		kind      string
		says      string
		cause     func(error) bool
		temporary bool
	}{
		{"exit status", shell("echo working; exit 3"), nil, run.Failed, "exit status 3", isExit, true},
		{"signal", shell("kill -SEGV $$"), nil, run.Failed, "signal: segmentation fault", nil, true},
		{"no such name", run.Command{Program: "nosuchprogram"}, nil, run.NotFound, "nosuchprogram", isName, false},
		{"no such path", run.Command{Program: "/nosuchprogram"}, nil, run.NotFound, "it does not exist", is(fs.ErrNotExist), false},
		{"no interpreter", run.Command{Program: file(t, "#!/usr/bin/nosuchshell\n", 0o700)}, nil, run.NotFound, "the interpreter that its first line names", nil, false},
		{"not executable", run.Command{Program: file(t, "#!/bin/sh\n", 0o600)}, nil, run.Permission, "permission denied", is(fs.ErrPermission), false},
		{"no first line", run.Command{Program: file(t, "echo hello\n", 0o700)}, nil, run.ExecFormat, "neither a program", is(syscall.ENOEXEC), false},
		{"arguments too long", shell(strings.Repeat("x", 1<<20)), nil, run.NotStarted, "argument list too long", is(syscall.E2BIG), false},
		{"time is up", run.Command{Program: "/bin/sleep", Args: []string{"60"}, Timeout: 50 * time.Millisecond}, nil, run.TimedOut, "after 50ms", is(context.DeadlineExceeded), true},
		{"too late", shell("echo ran"), over, run.Canceled, "because mxcert had to", is(context.Canceled), true},
	} {
		ctx := t.Context()
		if tt.ctx != nil {
			ctx = tt.ctx
		}
		out, err := tt.command.Run(ctx)
		e, ok := errors.AsType[*run.Error](err)
		if !ok || e.Kind() != tt.kind || !run.Is(err, tt.kind) || run.Is(err, "other") || !strings.Contains(e.Error(), tt.says) || e.Temporary() != tt.temporary || e.Program != tt.command.Program {
			t.Errorf("%s: %#v", tt.what, err)
		}
		if tt.cause != nil && !tt.cause(err) {
			t.Errorf("%s: the cause is %v", tt.what, errors.Unwrap(err))
		}
		if tt.what == "exit status" && out.Stdout != "working\n" || out.Stdout == "ran\n" {
			t.Errorf("%s: it printed %q", tt.what, out.Stdout)
		}
	}
	if run.Is(nil, run.Failed) || run.Is(errors.New("other"), run.Failed) {
		t.Error("errors of others have a kind")
	}
}

// TestNothingIsLeft: whatever way a program ends, what it has started ends too.
func TestNothingIsLeft(t *testing.T) {
	const child = "sleep 60 & echo $!; "
	for _, tt := range []struct {
		what, script string
		timeout      time.Duration
		grace        time.Duration
		kind         string
		least, most  time.Duration // a script has three seconds to begin
	}{
		{"it ends well", child, time.Minute, 0, "", 0, 30 * time.Second},
		{"it fails", child + "exit 1", time.Minute, 0, run.Failed, 0, 30 * time.Second},
		{"its time is up", child + "wait", 3 * time.Second, 0, run.TimedOut, 3 * time.Second, 30 * time.Second},
		{"it heeds SIGTERM", child + "trap 'echo stopped; exit' TERM; wait", 3 * time.Second, time.Minute, run.TimedOut, 3 * time.Second, 30 * time.Second},
		{"it ignores SIGTERM", "trap '' TERM; " + child + "wait; sleep 60", 3 * time.Second, 300 * time.Millisecond, run.TimedOut, 3300 * time.Millisecond, 30 * time.Second},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			c := shell(tt.script)
			c.Timeout, c.Grace = tt.timeout, tt.grace
			start := time.Now()
			out, err := c.Run(t.Context())
			took := time.Since(start)
			if (err == nil) != (tt.kind == "") || tt.kind != "" && !run.Is(err, tt.kind) || took < tt.least || took > tt.most {
				t.Errorf("%v after %s", err, took)
			}
			if strings.Contains(tt.what, "heeds") != strings.Contains(out.Stdout, "stopped") {
				t.Errorf("it said %q", out.Stdout)
			}
			if pid, _ := strconv.Atoi(strings.Fields(out.Stdout)[0]); pid == 0 || !gone(pid) {
				t.Errorf("its child %d is still there", pid)
			}
		})
	}
}

// TestUntil: a program that has said what its caller wants to know is stopped, and that is no error. Otherwise its end counts as ever.
func TestUntil(t *testing.T) {
	for _, tt := range []struct {
		what, script, until string
		keep                int
		stdout, kind        string
	}{
		{"goes on", "echo one; echo go ahead; exec sleep 600", "\ngo ahead", 0, "one\ngo ahead\n", ""},
		{"in two parts", "echo one; printf go; sleep 0.1; echo ' ahead'; exec sleep 600", "\ngo ahead\n", 0, "one\ngo ahead\n", ""},
		{"leaves a child", "sleep 600 & echo go ahead; wait", "go ahead", 0, "go ahead\n", ""},
		{"fails after it", "echo go ahead; exit 3", "go ahead", 0, "go ahead\n", ""},
		{"fails without it", "echo go; exit 3", "go ahead", 0, "go\n", run.Failed},
		{"says it elsewhere", "echo go ahead >&2; exit 3", "go ahead", 0, "", run.Failed},
		{"says it too late", "printf 'much and go ahead'; exit 3", "go ahead", 8, "much and", run.Failed},
	} {
		c := shell(tt.script)
		c.Until, c.Keep = tt.until, tt.keep
		out, err := c.Run(t.Context())
		if out.Stdout != tt.stdout || (err == nil) != (tt.kind == "") || err != nil && !run.Is(err, tt.kind) {
			t.Errorf("%s: %q, %v", tt.what, out.Stdout, err)
		}
	}
}

// TestTheContextEnds while the program is running.
func TestTheContextEnds(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for _, err := os.Stat(ready); err != nil; _, err = os.Stat(ready) {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	start := time.Now()
	if _, err := shell("touch " + ready + "; sleep 60").Run(ctx); !run.Is(err, run.Canceled) || !errors.Is(err, context.Canceled) || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

// TestASessionOfItsOwn is out of reach; it holds the output open and must not hold mxcert up.
func TestASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	start := time.Now()
	out, err := shell("setsid sh -c 'echo $$; touch " + ready + "; exec sleep 60' & until [ -e " + ready + " ]; do sleep 0.01; done").Run(t.Context())
	pid, _ := strconv.Atoi(strings.TrimSpace(out.Stdout))
	if pid > 0 {
		defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	}
	if err != nil || pid == 0 || !alive(pid) || time.Since(start) > 30*time.Second {
		t.Errorf("%+v, %v after %s", out, err, time.Since(start))
	}
}

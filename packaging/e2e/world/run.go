package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/packaging/e2e/mailhost"
)

// runTimeout is the deadline of a program for which the caller's context sets none.
const runTimeout = 60 * time.Second

// command is a program of the host. It dies with nsenter, which a test can kill.
func (h *Host) command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", fmt.Sprint(h.PID()), "--net", "--pid", "--mount", "--uts", "--ipc", "--",
		"setpriv", "--pdeathsig", "KILL", "chroot", h.keeper.run + "/" + string(h.tree),
	}, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a program of the host's root tree as root, with nothing on its standard input. A program that fails is a result, not an error;
// an error is a program that could not be started, or did not end within the context's deadline (60 s if it has none) and was killed.
func (h *Host) Run(ctx context.Context, argv ...string) (mailhost.Result, error) {
	return h.RunInput(ctx, "", argv...)
}

// RunInput is Run with text on the program's standard input.
func (h *Host) RunInput(ctx context.Context, stdin string, argv ...string) (mailhost.Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, runTimeout)
		defer cancel()
	}
	cmd := h.command(ctx, argv)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := mailhost.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("%s: run %q: %w\n%s%s", h.Name, argv, ctx.Err(), r.Stdout, r.Stderr)
	}
	if exit := (*exec.ExitError)(nil); err == nil || errors.As(err, &exit) {
		return r, nil
	}
	return r, fmt.Errorf("%s: run %q: %w", h.Name, argv, err)
}

// Must runs a program that has to succeed and returns its standard output.
func (h *Host) Must(ctx context.Context, argv ...string) (string, error) {
	r, err := h.Run(ctx, argv...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: run %q: exit status %d\n%s%s", h.Name, argv, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout, err
}

// Install builds a command of this module and puts it into the host's root tree.
func (h *Host) Install(ctx context.Context, pkg, path string) error {
	program, err := mailhost.Build(ctx, pkg)
	if err != nil {
		return err
	}
	return h.Write(path, string(program), 0o755)
}

// A Process is a program that runs until it ends, is stopped, or its host ends.
type Process struct {
	cmd    *exec.Cmd
	output lockedBuffer
	done   chan struct{}
}

// Start starts a program of the host's root tree as root. It ends with the host at the latest.
func (h *Host) Start(argv ...string) (*Process, error) {
	p := &Process{cmd: h.command(context.Background(), argv), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: start %q: %w", h.Name, argv, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its output
	}()
	h.keeper.mu.Lock()
	h.keeper.started = append(h.keeper.started, p)
	h.keeper.mu.Unlock()
	return p, nil
}

// Output is what the program has said up to now.
func (p *Process) Output() string { return p.output.String() }

// Ended reports whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the program and to what it has started.
func (p *Process) Signal(s syscall.Signal) error {
	if p.Ended() {
		return os.ErrProcessDone
	}
	return syscall.Kill(-p.cmd.Process.Pid, s)
}

// Stop kills the program and waits for its end, and for that of what it has started: until then, ports are taken.
func (p *Process) Stop() {
	group := p.cmd.Process.Pid
	killed := !p.Ended() && syscall.Kill(-group, syscall.SIGKILL) == nil
	<-p.done
	for end := time.Now().Add(5 * time.Second); killed && time.Now().Before(end) && lives(group); {
		time.Sleep(5 * time.Millisecond)
	}
}

// lives reports whether a process group has a process that has not ended. One that nobody has waited for has ended (proc_pid_stat(5)).
func lives(group int) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it is gone
		}
		var state string
		var parent, of int
		after := text[bytes.LastIndexByte(text, ')')+1:]
		if _, err := fmt.Sscan(string(after), &state, &parent, &of); err == nil && of == group && state != "Z" && state != "X" {
			return true
		}
	}
	return false
}

// AwaitPort waits until a TCP port of the host accepts a connection from the host itself, at most ten seconds.
func (h *Host) AwaitPort(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		var dialed error
		err := h.Do(func() {
			var c net.Conn
			if c, dialed = net.DialTimeout("tcp", address, time.Second); dialed == nil {
				c.Close()
			}
		})
		if err != nil || dialed == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: nobody listens on %s: %w", h.Name, address, dialed)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Do calls a function on a thread that is in the host's network namespace. Sockets that it opens itself belong to the host, and stay there;
// those of goroutines that it starts do not. Files are those of the test's machine.
func (h *Host) Do(f func()) error {
	failed := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and no other goroutine meets the foreign network.
		runtime.LockOSThread()
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.PID()))
		if err == nil {
			defer namespace.Close()
			err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		return fmt.Errorf("%s: to enter its network: %w", h.Name, err)
	}
	return nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

package mailhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Result is what a program said and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int // its exit status; -1 when a signal ended it
}

// runTimeout is the deadline of a program for which the caller's context sets none.
const runTimeout = 5 * time.Minute

// Run runs a program inside the host, as root, with nothing on its standard input and a small environment of its
// own. A program that fails is a Result, not an error; an error is a program that could not be started or did not
// end within the context's deadline (60 s when it has none) and was killed, with all that it had started.
func (h *Host) Run(ctx context.Context, argv ...string) (Result, error) {
	return h.RunInput(ctx, "", argv...)
}

// RunInput is Run with text on the program's standard input.
func (h *Host) RunInput(ctx context.Context, stdin string, argv ...string) (Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, runTimeout)
		defer cancel()
	}
	pid := h.pid()
	if pid == 0 {
		return Result{Code: -1}, fmt.Errorf("run %q: the host is down", argv)
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(pid), "--all", "--"}, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// nsenter forks to enter the PID namespace: only the group reaches the program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("run %q: %w\n%s%s", argv, ctx.Err(), r.Stdout, r.Stderr)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = nil
	}
	if err != nil {
		return r, fmt.Errorf("run %q: %w", argv, err)
	}
	return r, nil
}

// Must runs a program that has to succeed and returns its standard output; its failure is an error that shows all
// it said.
func (h *Host) Must(ctx context.Context, argv ...string) (string, error) {
	r, err := h.Run(ctx, argv...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("run %q: exit status %d\n%s%s", argv, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout, err
}

// A File is a file for the host. Owner is "user:group", by name or number; empty is root:root.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
	Owner   string
}

// Put makes or replaces a file, by a rename, owned by root. Missing directories are made with mode 0755.
func (h *Host) Put(path string, content []byte, mode fs.FileMode) error {
	return h.PutFile(File{Path: path, Content: content, Mode: mode})
}

// PutFile is Put with an owner.
func (h *Host) PutFile(f File) error {
	root, err := h.root()
	if err != nil {
		return err
	}
	defer root.Close()
	return put(root, f)
}

// Get reads a file. No component of its path may be an absolute symbolic link.
func (h *Host) Get(path string) ([]byte, error) {
	root, err := h.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(inRoot(path))
}

// Info describes a file of the host.
type Info struct {
	fs.FileInfo
	Owner string // "user:group", numbers where the host has no name for them
	Inode uint64
}

// Stat describes a file; a symbolic link itself, not what it points to. The error wraps fs.ErrNotExist where there is none.
func (h *Host) Stat(path string) (Info, error) {
	root, err := h.root()
	if err != nil {
		return Info{}, err
	}
	defer root.Close()
	fi, err := root.Lstat(inRoot(path))
	if err != nil {
		return Info{}, err
	}
	sys := fi.Sys().(*syscall.Stat_t)
	owner := nameOf(root, "etc/passwd", sys.Uid) + ":" + nameOf(root, "etc/group", sys.Gid)
	return Info{FileInfo: fi, Owner: owner, Inode: sys.Ino}, nil
}

// root opens the host's file tree as its own processes see it.
func (h *Host) root() (*os.Root, error) {
	pid := h.pid()
	if pid == 0 {
		return nil, errors.New("the host is down")
	}
	return os.OpenRoot(fmt.Sprintf("/proc/%d/root", pid))
}

func inRoot(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// PutBelow makes or replaces a file below a root tree, by a rename. Missing directories are made with mode 0755.
func PutBelow(tree string, f File) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	return put(root, f)
}

func put(root *os.Root, f File) error {
	uid, gid, err := ownerIDs(root, f.Owner)
	if err != nil {
		return fmt.Errorf("put %s: %w", f.Path, err)
	}
	name := inRoot(f.Path)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("put %s: %w", f.Path, err)
	}
	temporary := path.Join(path.Dir(name), ".put-"+randomHex(4))
	err = root.WriteFile(temporary, f.Content, 0o600)
	if err == nil {
		err = root.Chown(temporary, uid, gid)
	}
	if err == nil {
		err = root.Chmod(temporary, f.Mode)
	}
	if err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", f.Path, errors.Join(err, root.RemoveAll(temporary)))
	}
	return nil
}

func ownerIDs(root *os.Root, owner string) (uid, gid int, err error) {
	if owner == "" {
		return 0, 0, nil
	}
	user, group, _ := strings.Cut(owner, ":")
	if uid, err = idOf(root, "etc/passwd", user); err != nil {
		return 0, 0, err
	}
	gid, err = idOf(root, "etc/group", group)
	return uid, gid, err
}

// idOf looks a name up in the host's passwd or group file: the machine's own names have other numbers.
func idOf(root *os.Root, file, name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	table, err := root.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Split(line, ":"); f[0] == name && len(f) > 2 {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("no %q in /%s", name, file)
}

func nameOf(root *os.Root, file string, id uint32) string {
	table, _ := root.ReadFile(file)
	number := strconv.FormatUint(uint64(id), 10)
	for line := range strings.Lines(string(table)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == number {
			return f[0]
		}
	}
	return number
}

// Dial connects from inside the host's network namespace. The address must have a number for its host: a name would be
// looked up outside.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	leave, err := h.enterNetwork()
	if err != nil {
		return nil, err
	}
	defer leave()
	return new(net.Dialer).DialContext(ctx, network, address)
}

// enterNetwork moves the calling goroutine, locked to its thread, into the host's network namespace, until leave is
// called. Sockets made there stay there.
func (h *Host) enterNetwork() (leave func(), err error) {
	pid := h.pid()
	if pid == 0 {
		return nil, errors.New("the host is down")
	}
	runtime.LockOSThread()
	outside, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	inside, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err == nil {
		err = unix.Setns(int(inside.Fd()), unix.CLONE_NEWNET)
		inside.Close()
	}
	if err != nil {
		outside.Close()
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter the host's network: %w", err)
	}
	return func() {
		// A thread that cannot go back stays locked, and ends with its goroutine.
		if unix.Setns(int(outside.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		outside.Close()
	}, nil
}

// AwaitPort waits until a connection to a TCP port of the host is accepted.
func (h *Host) AwaitPort(ctx context.Context, address string) error {
	for {
		conn, err := h.Dial(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("nothing listens on %s: %w", address, err)
		}
	}
}

// Journal returns the journal's lines of a unit (of all units when it is empty) since a moment (since boot when it is zero).
func (h *Host) Journal(ctx context.Context, unit string, since time.Time) (string, error) {
	args := []string{"journalctl", "--no-pager", "-o", "short-precise", "-b"}
	if unit != "" {
		args = append(args, "-u", unit)
	}
	if !since.IsZero() {
		args = append(args, "--since", fmt.Sprintf("@%d.%06d", since.Unix(), since.Nanosecond()/1000))
	}
	return h.Must(ctx, args...)
}

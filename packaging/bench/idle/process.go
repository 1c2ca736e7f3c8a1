package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// service is a process that is started as systemd would start it, with a socket for its notifications and two processors for Go.
type service struct {
	cmd   *exec.Cmd
	log   bytes.Buffer
	ready time.Duration // from the start to READY=1
}

// start starts a program and waits until it reports that it is ready.
func start(ctx context.Context, program string, args ...string) (*service, error) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer socket.Close() //nolint:errcheck // it is read only
	s := &service{cmd: exec.CommandContext(ctx, program, args...)}
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "NOTIFY_SOCKET="+socket.LocalAddr().String(), "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	_ = socket.SetReadDeadline(began.Add(time.Minute))
	for buffer := make([]byte, 4096); ; {
		n, err := socket.Read(buffer)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s is not ready: %w", program, err), s.stop())
		}
		if bytes.Contains(buffer[:n], []byte("READY=1")) {
			s.ready = time.Since(began)
			return s, nil
		}
	}
}

// stop ends the process by SIGTERM.
func (s *service) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // the process may have ended already
	err := s.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if how, ok := exit.Sys().(syscall.WaitStatus); ok && how.Signal() == syscall.SIGTERM {
			return nil // SIGTERM came before it handled signals
		}
	}
	if err != nil {
		return fmt.Errorf("%w\n%.2000s", err, s.log.String())
	}
	return nil
}

// usage is what a process has used so far, and the memory that it holds.
type usage struct {
	rss, anonymous int64 // bytes
	cpu            time.Duration
	wakeups        int64 // how often one of its threads went to sleep, and so was woken again; other load on the machine does not change that
}

// usage reads proc(5).
func (s *service) usage() (u usage, err error) {
	proc := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return u, err
	}
	u.rss, u.anonymous = kilobytes(string(status), "VmRSS:"), kilobytes(string(status), "RssAnon:")
	threads, err := filepath.Glob(proc + "/task/*/schedstat")
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			return u, err
		}
		fields := strings.Fields(string(text)) // time on the processor, time in the queue, time slices
		if len(fields) != 3 {
			return u, fmt.Errorf("%s: %q", thread, text)
		}
		ran, _ := strconv.ParseInt(fields[0], 10, 64)
		status, err := os.ReadFile(filepath.Join(filepath.Dir(thread), "status"))
		if err != nil {
			return u, err
		}
		u.cpu, u.wakeups = u.cpu+time.Duration(ran), u.wakeups+number(string(status), "voluntary_ctxt_switches:")
	}
	return u, err
}

func kilobytes(status, name string) int64 { return number(status, name) << 10 }

// number returns the number behind a name that begins a line.
func number(status, name string) int64 {
	_, after, _ := strings.Cut(status, "\n"+name)
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n
}

// quiet is longer than the time after which mxcert returns the memory of its first passes.
const quiet = 15 * time.Second

// unsettled is how long to wait for a rest. With a thousand certificates there is none: a pass ends every few seconds.
const unsettled = 3 * time.Minute

// settle waits until the process has finished the work of its start, that is, until it has computed hardly anything for a while, twice: on a
// busy machine it may not have come to it.
func (s *service) settle(ctx context.Context) error {
	begun := time.Now()
	for rests := 0; rests < 2 && time.Since(begun) < unsettled; {
		before, err := s.usage()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(quiet):
		}
		after, err := s.usage()
		if err != nil {
			return err
		}
		if rests++; after.cpu-before.cpu > 10*time.Millisecond {
			rests = 0
		}
	}
	return nil
}

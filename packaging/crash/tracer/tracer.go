//go:build linux && amd64

// Package tracer runs a program and stops it at each system call that touches files (ptrace(2)). At each stop the caller can kill the
// program, make the call fail, or look at the disk.
//
// The program calls [Mark] at the beginning and at the end of the part to observe. It must do its work on its main thread
// (runtime.LockOSThread in an init or main). Its other threads, and programs that it starts, run untraced.
//
// Not supported: processors other than amd64, because they keep the number of a call and its result in other registers.
package tracer

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// These numbers are given to Mark at the beginning and at the end of the observed part.
const (
	Begin = 0x6d78_0001
	End   = 0x6d78_0002
)

// Mark tells the tracer where the program is. It makes a system call that does not exist (ENOSYS without a tracer).
func Mark(number uintptr) { _, _, _ = syscall.RawSyscall(number, 0, 0, 0) }

// Call is a system call that is about to be made.
type Call struct {
	Index   int    // counts from 0 at Begin
	Name    string // "openat"; "end" at the mark End, when all calls are done
	Path    string // the path in the call, as the program wrote it; "" if the call uses a descriptor
	Changes bool   // it changes the file system, or makes changes durable
	Creates bool   // it needs room or a new inode
}

// String is for messages.
func (c Call) String() string {
	if c.Path == "" {
		return fmt.Sprintf("call %d %s", c.Index, c.Name)
	}
	return fmt.Sprintf("call %d %s %s", c.Index, c.Name, c.Path)
}

// Verdict says what happens to a call. With the zero value the call is made as usual.
type Verdict struct {
	Kill  bool          // SIGKILL, and the call is not made
	Errno syscall.Errno // the call is not made, and fails with this
	Short bool          // write(2) writes half
}

// Result says how the program ended.
type Result struct {
	Killed bool   // by a verdict
	Status int    // exit status; -1 after a signal
	Stdout []byte // at most what fits into a pipe, 64 KiB
	Stderr []byte
}

// Run runs a program with the given environment. At each call between Begin and End it asks the function at what to do.
func Run(argv, env []string, at func(Call) Verdict) (Result, error) {
	// The kernel lets only the thread that started the program trace it. That thread is not unlocked, so it ends with this goroutine. A
	// program that still runs then ends, too (PTRACE_O_EXITKILL).
	type outcome struct {
		result Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread()
		result, err := run(argv, env, at)
		done <- outcome{result, err}
	}()
	o := <-done
	return o.result, o.err
}

func run(argv, env []string, at func(Call) Verdict) (Result, error) {
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	defer stdout.Close()
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	defer stderr.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return Result{}, err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Env: env, Files: []uintptr{null.Fd(), stdoutEnd.Fd(), stderrEnd.Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
	})
	stdoutEnd.Close()
	stderrEnd.Close()
	if err != nil {
		return Result{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	t := tracee{pid: pid, calls: fileCalls(), at: at}
	result, err := t.follow()
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = t.wait()
		return Result{}, fmt.Errorf("trace %s: %w", argv[0], err)
	}
	result.Stdout, result.Stderr = drain(stdout), drain(stderr)
	return result, nil
}

// drain reads what the program, which has ended, left in the pipe.
func drain(pipe *os.File) []byte {
	buffer := make([]byte, 1<<16)
	n, _ := pipe.Read(buffer)
	return bytes.Clone(buffer[:n])
}

type tracee struct {
	pid    int
	calls  map[uint64]kind
	at     func(Call) Verdict
	next   int  // index of the next call
	inside bool // between the marks
	killed bool
}

func (t *tracee) wait() (status syscall.WaitStatus, err error) {
	for {
		if _, err = syscall.Wait4(t.pid, &status, unix.WALL, nil); err != syscall.EINTR {
			return status, err
		}
	}
}

// follow continues the program from stop to stop. Stops at the start and at the end of a call alternate.
func (t *tracee) follow() (Result, error) {
	if _, err := t.wait(); err != nil { // execve(2) is done
		return Result{}, err
	}
	if err := syscall.PtraceSetOptions(t.pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL); err != nil {
		return Result{}, err
	}
	atEntry, deliver := true, 0
	var leave func(*syscall.PtraceRegs)
	for {
		if err := syscall.PtraceSyscall(t.pid, deliver); err != nil && err != syscall.ESRCH {
			return Result{}, err
		}
		status, err := t.wait()
		if err != nil {
			return Result{}, err
		}
		switch {
		case status.Exited():
			return Result{Status: status.ExitStatus()}, nil
		case status.Signaled():
			return Result{Killed: t.killed && status.Signal() == syscall.SIGKILL, Status: -1}, nil
		case status.StopSignal() != syscall.SIGTRAP|0x80:
			deliver = int(status.StopSignal())
			continue
		}
		deliver = 0
		if atEntry {
			leave, err = t.enter()
		} else if leave != nil {
			err = t.change(leave)
		}
		if err != nil && !t.killed {
			return Result{}, err
		}
		atEntry = !atEntry
	}
}

// enter handles a call before it is made. leave changes the registers after the call was made.
func (t *tracee) enter() (leave func(*syscall.PtraceRegs), err error) {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(t.pid, &regs); err != nil {
		return nil, err
	}
	switch regs.Orig_rax {
	case Begin:
		t.inside = true
		return nil, nil
	case End:
		t.inside = false
		return t.judge(Call{Index: t.next, Name: "end"}, regs)
	}
	k, known := t.calls[regs.Orig_rax]
	if !t.inside || !known {
		return nil, nil
	}
	call := Call{Index: t.next, Name: k.name, Changes: k.changes}
	if k.path >= 0 {
		call.Path = t.text([]uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10}[k.path])
	}
	if k.name == "openat" && regs.Rdx&(unix.O_CREAT|unix.O_TRUNC) != 0 {
		call.Changes = true
	}
	call.Creates = k.name == "openat" && regs.Rdx&unix.O_CREAT != 0 ||
		slices.Contains([]string{"write", "pwrite64", "mkdirat", "mkdir", "linkat", "symlinkat", "fallocate"}, k.name)
	t.next++
	return t.judge(call, regs)
}

func (t *tracee) judge(call Call, regs syscall.PtraceRegs) (leave func(*syscall.PtraceRegs), err error) {
	switch verdict := t.at(call); {
	case verdict.Kill:
		t.killed = true
		return nil, syscall.Kill(t.pid, syscall.SIGKILL)
	case verdict.Errno != 0:
		const none = ^uint64(0)
		regs.Orig_rax = none
		return func(after *syscall.PtraceRegs) {
			after.Rax = -uint64(verdict.Errno)
		}, syscall.PtraceSetRegs(t.pid, &regs)
	case verdict.Short && regs.Rdx > 1:
		asked := regs.Rdx
		regs.Rdx = asked / 2
		return func(after *syscall.PtraceRegs) {
			after.Rdx = asked
		}, syscall.PtraceSetRegs(t.pid, &regs)
	}
	return nil, nil
}

func (t *tracee) change(registers func(*syscall.PtraceRegs)) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(t.pid, &regs); err != nil {
		return err
	}
	registers(&regs)
	return syscall.PtraceSetRegs(t.pid, &regs)
}

// text reads a string from the program's memory, no longer than a path can be.
func (t *tracee) text(address uint64) string {
	var path []byte
	for len(path) < unix.PathMax {
		var word [8]byte
		if n, err := syscall.PtracePeekData(t.pid, uintptr(address)+uintptr(len(path)), word[:]); err != nil || n != len(word) {
			break
		}
		if end := bytes.IndexByte(word[:], 0); end >= 0 {
			return string(append(path, word[:end]...))
		}
		path = append(path, word[:]...)
	}
	return string(path)
}

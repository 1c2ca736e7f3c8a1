package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// beFirst is mxcert as process 1 of a container. The kernel gives process 1 every orphan, such as what a hook leaves behind, and expects
// it to wait for them. os/exec cannot share that work: whoever waits for all children takes the results of its own. So the work is done by a
// second process with the same arguments. beFirst waits for all children, passes signals on, and returns the exit code of the second process.
// When process 1 ends, the kernel ends all others of the container.
func beFirst() int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	program, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mxcert:", err)
		return 1
	}
	child, err := os.StartProcess(program, os.Args, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}) //nolint:gosec // it is this program, with the arguments that it was given
	if err != nil {
		fmt.Fprintln(os.Stderr, "mxcert:", err)
		return 1
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // a system call returns it as it is
		case err != nil:
			fmt.Fprintln(os.Stderr, "mxcert:", err)
			return 1
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal()) // as shells report it
		case pid == child.Pid:
			return status.ExitStatus()
		}
	}
}

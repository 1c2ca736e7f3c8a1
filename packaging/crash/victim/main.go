//go:build linux && amd64

// Command victim does one operation, so that the crash harness can kill it. It checks nothing; the harness does.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"mxcert/packaging/crash/operation"
	"mxcert/packaging/crash/tracer"
)

// The tracer sees only the main thread, and only an init function is sure to run on it.
func init() { runtime.LockOSThread() } //nolint:gochecknoinits // see above

// Report is what a run writes to its standard output.
type Report struct {
	Failed        bool
	Message, Hint string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run reads the operation from the first argument. The second argument, if there is one, limits the size of files.
func run() error {
	var spec operation.Spec
	if err := json.Unmarshal([]byte(os.Args[1]), &spec); err != nil {
		return err
	}
	work, err := spec.Prepare()
	if err != nil {
		return err
	}
	if err := spec.BecomeOwner(); err != nil {
		return err
	}
	if len(os.Args) > 2 {
		if err := limit(os.Args[2]); err != nil {
			return err
		}
	}
	tracer.Mark(tracer.Begin)
	err = work()
	tracer.Mark(tracer.End)
	report := Report{Failed: err != nil}
	if err != nil {
		report.Message = err.Error()
		if h, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); ok {
			report.Hint = h.Hint()
		}
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

func limit(text string) error {
	size, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return err
	}
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size})
}

// Command mxcert gives a mail host a certificate that senders accept, puts it where the mail server reads it, makes the
// server use it, and proves on the wire that it does.
//
// main only wires: daemon.go says when something is done, pass.go what and in which order, report.go what is said about
// it; every command has a file of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	syscall.Umask(0o077)
	// No core dump and no debugger of another process sees the keys (prctl(2)). A kernel that refuses is no reason to stop.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	signal.Ignore(syscall.SIGHUP) // a lost terminal does not end a renewal; the daemon listens to it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &checkedWriter{Writer: stdout}
	a := &app{stdout: out, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("write the result: %w", out.err)
	}
	if err == nil {
		return exitOK
	}
	if err.Error() != "" { // otherwise the report has said everything
		a.sayFailure(err)
	}
	return exitCodeOf(err)
}

// checkedWriter remembers the first failure, so that a result which nobody got is not called a success.
type checkedWriter struct {
	io.Writer
	err error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

// Command mxcert gives a mail host a certificate that senders accept, puts it where the mail server reads it, makes the
// server use it, and proves on the wire that it does.
//
// main only wires: daemon.go says when something is done, pass.go what and in which order, report.go what is said about
// it; every command has a file of its own.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if err.Error() != "" { // otherwise the report has said everything
		a.sayFailure(err)
	}
	return exitCodeOf(err)
}

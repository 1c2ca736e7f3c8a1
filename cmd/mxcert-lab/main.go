// Command mxcert-lab is a mail world in one process: a CA (Pebble), authoritative name servers that take dynamic updates,
// and an SMTP server with STARTTLS, all on loopback addresses. It is for rehearsals, for the demo and for tests, and it
// needs no privilege and no network.
//
// main only connects the parts, which are the packages below this directory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

// errUsage marks a command line that cannot be understood.
var errUsage = errors.New("usage")

// run executes one command line and returns the exit code. The commands that serve end with the context, without an error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use: "mxcert-lab", Short: "A CA, name servers and a mail server to rehearse mxcert with",
		Args: noArguments, RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
		SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(upCommand(), caCommand(), versionCommand())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %v", errUsage, err) })
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "mxcert-lab: %v\n", err)
	if errors.Is(err, errUsage) {
		fmt.Fprintf(stderr, "see: %s --help\n", command.CommandPath())
		return exitUsage
	}
	return exitFault
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unknown argument %q", errUsage, args[0])
	}
	return nil
}

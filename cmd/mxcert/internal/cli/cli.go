// Package cli is the command line of mxcert: one file for each command. A command turns its flags into a call of another package and prints
// the answer, as text for a person or as one JSON document.
//
// Every command prints its result to stdout and its progress to stderr, and ends with an exit code of package report. The package itself
// has no rules about certificates; those are in the packages that it calls.
package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/report"
)

// Run executes one command line and returns the exit code. The result goes to stdout, progress and logs go to stderr. release is the
// version that the program reports. If ctx ends, it interrupts the command.
func Run(ctx context.Context, release string, args []string, stdout, stderr io.Writer) int {
	ascii := wantsASCII()
	a := &app{version: release, stdout: &console{out: stdout, ascii: ascii}, stderr: &console{out: stderr, ascii: ascii}}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	a.json = a.json || slices.Contains(args, "--json") // after a wrong flag, cobra has not read the rest
	if err == nil && a.stdout.err != nil {
		err = fmt.Errorf("write the result: %w", a.stdout.err)
	}
	if err == nil {
		return int(report.CodeOK)
	}
	if err.Error() != "" { // if there is no text, the report has said everything
		a.sayFailure(err)
		a.proposeSudo(err, args)
	}
	return int(report.CodeOf(err))
}

// Root returns the command tree, for programs that describe it. release is the version that the program reports.
func Root(release string) *cobra.Command {
	return (&app{version: release, stdout: &console{out: io.Discard}, stderr: &console{out: io.Discard}}).rootCommand()
}

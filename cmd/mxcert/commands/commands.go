// Package commands returns the command tree of mxcert, for programs that write about it, such as those for manual pages and tables of
// options. It runs nothing and prints nothing. The commands themselves are in cmd/mxcert/internal/cli, which other programs cannot import.
package commands

import (
	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/cli"
)

// Root returns the command mxcert with all its subcommands. release is the version that it reports. Each call makes a new tree, which the
// caller may change.
func Root(release string) *cobra.Command { return cli.Root(release) }

// Package commands is the command tree of mxcert, for programs that write about it: manual pages, tables of options. It runs
// nothing and prints nothing; the commands themselves live in cmd/mxcert/internal/cli, which cannot be imported from elsewhere.
package commands

import (
	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/cli"
)

// Root returns the command mxcert with everything below it. release is the version that it reports. Each call makes a new
// tree, which the caller may change.
func Root(release string) *cobra.Command { return cli.Root(release) }

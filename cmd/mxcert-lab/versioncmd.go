package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the linker (-X main.release=1.2.3); a build from a checkout says so.
var release = "0.0.0-dev"

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Versions of mxcert-lab, Go and Pebble", Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(command.OutOrStdout(), "mxcert-lab %s (%s, %s/%s, pebble %s)\n",
				release, runtime.Version(), runtime.GOOS, runtime.GOARCH, pebbleVersion())
			return err
		},
	}
}

func pebbleVersion() string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/letsencrypt/pebble/v2" {
				return dep.Version
			}
		}
	}
	return "unknown"
}

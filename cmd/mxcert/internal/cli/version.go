package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

type versionReport struct {
	Version   string `json:"version"`
	GoVersion string `json:"goversion"`
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	Lego      string `json:"lego"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Versions of mxcert, Go and lego", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

func (a *app) printVersion() error {
	v := versionReport{Version: a.version, GoVersion: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Lego: legoVersion()}
	if a.json {
		return a.printJSON(v)
	}
	_, err := fmt.Fprintf(a.stdout, "mxcert %s (%s, %s/%s, lego %s)\n", v.Version, v.GoVersion, v.OS, v.Arch, v.Lego)
	return err
}

func legoVersion() string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/go-acme/lego/v4" {
				return dep.Version
			}
		}
	}
	return "unknown"
}

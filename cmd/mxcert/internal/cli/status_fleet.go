package cli

import (
	"fmt"

	"mxcert/acme/fleet"
	"mxcert/acme/state/disk"

	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// addFleet adds how the store of the fleet is, as the disk of this host remembers it: no secret is needed, and nobody is asked.
func addFleet(r *report.Report, host *wanted.Host) {
	if host.Fleet != nil {
		r.Fleet = daemon.ReportFleet(host.Fleet, fleet.Known(disk.At(host.State)))
	}
}

// printFleetHealth says since when the store of the fleet is away, and what this host refuses. It prints nothing if all is well.
func printFleetHealth(out sheet, f *report.Fleet) {
	if f == nil || f.Engine.Up && len(f.Faults) == 0 || f.Engine.Since == nil {
		return
	}
	fmt.Fprintf(out, "fleet %s\n", f.Name)
	if !f.Engine.Up {
		out.line("error", "its store cannot be used since %s: %s. Mail is served as before; orders and changes of keys wait", report.Minute(*f.Engine.Since), f.Engine.Reason)
		if f.Engine.Hint != "" {
			out.line("next step", "%s", f.Engine.Hint)
		}
	}
	for _, fault := range f.Faults {
		out.line("error", "%s", fault)
	}
	fmt.Fprintln(out)
}

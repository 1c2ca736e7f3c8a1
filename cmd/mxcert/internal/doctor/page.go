package doctor

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

const (
	// pageSoon is how long after its start a daemon has written the page and the textfile for sure.
	pageSoon = 10 * time.Minute
	// pageStale is how old those of a daemon that runs may get.
	pageStale = 2 * time.Hour
)

// page checks that passes can write the page, and that a running daemon does.
func (d *Doctor) page(context.Context) []finding.Finding {
	return d.written("page", d.Runner.Host.Page, "THE PAGE in mxcert.service(8)")
}

// textfile does the same for the textfile of node_exporter.
func (d *Doctor) textfile(context.Context) []finding.Finding {
	return d.written("textfile", d.Runner.Host.Metrics.Textfile, "METRICS in mxcert(7)")
}

// written checks a file that passes write. What the sandbox of the service forbids shows only if a daemon runs. manual says how to permit it.
func (d *Doctor) written(what, path, manual string) []finding.Finding {
	directory := filepath.Dir(path)
	if err := unix.Access(directory, unix.W_OK|unix.X_OK); err != nil {
		return []finding.Finding{doubtful("the %s %s cannot be written: %s: %v", what, path, directory, err).About(path).Next("give the directory to the user that writes the " + what + ": see " + manual)}
	}
	if d.Daemon == nil || time.Since(d.Daemon.Started) < pageSoon || time.Since(d.Daemon.ConfigLoaded) < pageSoon {
		return []finding.Finding{well("the %s %s can be written", what, path).About(path)}
	}
	hint := "journalctl -u mxcert says why; if the file system is read-only for the service, see " + manual
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return []finding.Finding{doubtful("the daemon runs and has not written the %s %s: %v", what, path, err).About(path).Next(hint)}
	case time.Since(info.ModTime()) > pageStale:
		return []finding.Finding{doubtful("the daemon runs, and the %s %s is of %s", what, path, report.Minute(info.ModTime())).About(path).Next(hint)}
	}
	return []finding.Finding{well("the %s %s was written at %s", what, path, report.Minute(info.ModTime())).About(path)}
}

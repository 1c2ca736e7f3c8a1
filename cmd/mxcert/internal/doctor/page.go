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
	// pageSoon is how long after its start a daemon has written the page for sure.
	pageSoon = 10 * time.Minute
	// pageStale is how old the page of a daemon that runs may get.
	pageStale = 2 * time.Hour
)

// page checks that passes can write the page, and that a running daemon does. What the sandbox of the service forbids shows only there.
func (d *Doctor) page(context.Context) []finding.Finding {
	path := d.Runner.Host.Page
	directory := filepath.Dir(path)
	if err := unix.Access(directory, unix.W_OK|unix.X_OK); err != nil {
		return []finding.Finding{doubtful("the page %s cannot be written: %s: %v", path, directory, err).About(path).Next("give the directory to the user that writes the page: see THE PAGE in mxcert.service(8)")}
	}
	if d.Daemon == nil || time.Since(d.Daemon.Started) < pageSoon || time.Since(d.Daemon.ConfigLoaded) < pageSoon {
		return []finding.Finding{well("the page %s can be written", path).About(path)}
	}
	const hint = "journalctl -u mxcert says why; if the file system is read-only for the service, see THE PAGE in mxcert.service(8)"
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return []finding.Finding{doubtful("the daemon runs and has not written the page %s: %v", path, err).About(path).Next(hint)}
	case time.Since(info.ModTime()) > pageStale:
		return []finding.Finding{doubtful("the daemon runs, and the page %s is of %s", path, report.Minute(info.ModTime())).About(path).Next(hint)}
	}
	return []finding.Finding{well("the page %s was written at %s", path, report.Minute(info.ModTime())).About(path)}
}

package daemon

import (
	"errors"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// setStatus changes the status that commands can read.
func (d *Daemon) setStatus(change func(*report.Daemon)) {
	d.mu.Lock()
	change(&d.status)
	status, w := d.status, d.workload
	d.mu.Unlock()
	if err := w.runner.Store.SaveDaemon(status); err != nil {
		d.log.Warn("the daemon's status could not be stored", "error", err)
	}
}

// Running returns what a running daemon has written about itself in a store, or nil if none runs.
func Running(store *state.Book) *report.Daemon {
	var r report.Daemon
	if err := store.Daemon(&r); err != nil || !alive(r.PID) {
		return nil
	}
	return &r
}

// alive reports whether a process exists.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return pid > 0 && (err == nil || errors.Is(err, syscall.EPERM))
}

// untilIdle is how long no pass may have run before the daemon returns the memory that passes needed. It then has nothing to do for up to
// an hour, and the host needs its memory for mail.
const untilIdle = 10 * time.Second

// rest closes connections to CAs, which would time out before they are used again, and returns memory. This host stays in its fleet.
func (d *Daemon) rest() {
	if w := d.current(); w != nil {
		w.runner.CAs.Close()
	}
	runtime.GC() // pools free their memory in two steps
	debug.FreeOSMemory()
}

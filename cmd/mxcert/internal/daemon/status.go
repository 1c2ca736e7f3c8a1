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

// setStatus changes what the daemon leaves for commands to read.
func (d *Daemon) setStatus(change func(*report.Daemon)) {
	d.mu.Lock()
	change(&d.status)
	status, w := d.status, d.workload
	d.mu.Unlock()
	if err := w.runner.Store.SaveDaemon(status); err != nil {
		d.log.Warn("the daemon's status could not be stored", "error", err)
	}
}

// Running reads the status that a running daemon has left in a store; nil if no daemon runs.
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

// untilIdle is how long after the last pass the daemon returns the memory that passes needed: it may now sleep for an hour, on
// a host whose memory is for mail.
const untilIdle = 10 * time.Second

// rest closes connections that will not be used before their idle time is over, and returns memory.
func (d *Daemon) rest() {
	if w := d.current(); w != nil {
		w.runner.Close()
	}
	runtime.GC() // pools release their memory in two steps
	debug.FreeOSMemory()
}

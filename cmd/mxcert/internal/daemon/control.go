package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
)

// Order is what a command asks a daemon for. A connection carries one order. The answer is lines of progress, and the report in
// the last line. Closing the connection stops the work as SIGINT stops a command.
type Order struct {
	Names       []string  `json:"names"`          // of certificates; all if empty
	Look        bool      `json:"look,omitempty"` // only report how things are
	Force       bool      `json:"force,omitempty"`
	NewKey      bool      `json:"new_key,omitempty"`
	DeployOnly  bool      `json:"deploy_only,omitempty"`
	Rollback    bool      `json:"rollback,omitempty"`
	Shorter     bool      `json:"shorter,omitempty"`
	Asked       time.Time `json:"asked"`
	Fingerprint string    `json:"fingerprint"` // of the configuration as the command reads it
}

// line is progress, or the end.
type line struct {
	Certificate string `json:"certificate,omitempty"`
	Stage       string `json:"stage,omitempty"`
	Message     string `json:"message,omitempty"`

	Report *report.Report `json:"report,omitempty"`
	Refuse string         `json:"refuse,omitempty"` // why the daemon does not obey
}

// controlPatience bounds how long a peer may take to say what it wants.
const controlPatience = 5 * time.Second

// controlPath returns where a daemon listens: in the directory that systemd made for it, else in its state directory.
func controlPath(stateDirectory string) string {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, "control.sock")
	}
	return filepath.Join(stateDirectory, "control.sock")
}

// listen opens the control socket; the daemon's lock is held. Without a socket, commands work under the daemon's locks instead.
func (d *Daemon) listen(ctx context.Context, stateDirectory string) (stop func()) {
	path := controlPath(stateDirectory)
	listener, err := wire.Listen(path, 0o600)
	if err != nil {
		d.log.Warn("commands cannot ask this daemon; they work under its locks instead", "error", err)
		return func() {}
	}
	go d.accept(ctx, listener)
	d.setStatus(func(s *report.Daemon) { s.Socket = path })
	return func() { _ = listener.Close() }
}

func (d *Daemon) accept(ctx context.Context, listener *wire.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		d.tending.Go(func() {
			defer func() { _ = conn.Close() }() // the answer is sent, or the command is gone
			d.serve(ctx, conn)
		})
	}
}

// serve does what one command asks for. Only root and the service's own user may ask.
func (d *Daemon) serve(ctx context.Context, conn *wire.Conn) {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	send := func(l line) { // also after ctx has ended: the report says what was interrupted
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlPatience)
		defer cancel()
		_ = conn.Write(ctx, l) // the end of a command ends the work, see below
	}
	if err := conn.Admit(0, os.Geteuid()); err != nil {
		d.log.Warn("control socket: refused", "error", err)
		send(line{Refuse: "only root and the service's user may give orders: " + err.Error()})
		return
	}
	var order Order
	patience, stop := context.WithTimeout(ctx, controlPatience)
	err := conn.Read(patience, &order)
	stop()
	if err != nil {
		send(line{Refuse: "the order cannot be understood: " + err.Error()})
		return
	}
	go func() { // the command sends no more lines: this read ends when it hangs up
		var nothing any
		_ = conn.Read(ctx, &nothing)
		cancel()
	}()
	send(d.obey(ctx, order, send))
}

// obey makes the passes, with the rights and the configuration of the daemon.
func (d *Daemon) obey(ctx context.Context, asked Order, send func(line)) line {
	w := d.current()
	if w.runner.Host.Fingerprint != asked.Fingerprint {
		select {
		case d.rereads <- struct{}{}: // the file was edited a moment ago
			w = d.awaitConfiguration(ctx, asked.Fingerprint)
		case <-ctx.Done():
		}
	}
	if w.runner.Host.Fingerprint != asked.Fingerprint {
		return line{Refuse: "the daemon works with a configuration that differs from the file: is the file good (mxcert check), and is it the daemon's (systemctl status mxcert)?"}
	}
	wants, err := w.runner.Host.Choose(asked.Names)
	if err != nil {
		return line{Refuse: err.Error()}
	}
	if asked.Look {
		return line{Report: w.look(ctx, wants)}
	}
	options := pass.Options{Force: asked.Force, NewKey: asked.NewKey, DeployOnly: asked.DeployOnly, Rollback: asked.Rollback, Shorter: asked.Shorter,
		Asked: asked.Asked, Replaced: w.waiting.Done()}
	return line{Report: report.Sum(Each(wants, func(want wanted.Certificate) report.Certificate {
		return d.pass(ctx, &order{workload: w, want: want, options: options, log: d.log.With("certificate", want.Name, "asked", "by a command"),
			say: func(stage, message string) { send(line{Certificate: want.Name, Stage: stage, Message: message}) }})
	}))}
}

// maxLive is the greatest number of endpoints that a look asks. If there are more, it reports their last answers, and when they
// were given.
const maxLive = 64

// look reports how things are, from memory if possible.
func (w *workload) look(ctx context.Context, wants []wanted.Certificate) *report.Report {
	endpoints := 0
	for _, want := range wants {
		endpoints += len(want.Endpoints()) * len(want.Keys)
	}
	return report.Sum(Each(wants, func(want wanted.Certificate) report.Certificate {
		return w.memory.Look(ctx, want, w.runner.Store.Lineage(want.Name), endpoints <= maxLive)
	}))
}

// Each makes a report on each certificate, several at once, in their order.
func Each(wants []wanted.Certificate, one func(wanted.Certificate) report.Certificate) []report.Certificate {
	reports := make([]report.Certificate, len(wants))
	var group errgroup.Group
	group.SetLimit(MaxPasses)
	for i, want := range wants {
		group.Go(func() error {
			reports[i] = one(want)
			return nil
		})
	}
	_ = group.Wait() // the reports have the errors
	return reports
}

// awaitConfiguration waits until the daemon has read its files again.
func (d *Daemon) awaitConfiguration(ctx context.Context, fingerprint string) *workload {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	for {
		w := d.current()
		if w.runner.Host.Fingerprint == fingerprint {
			return w
		}
		select {
		case <-ctx.Done():
			return w
		case <-time.After(20 * time.Millisecond):
		}
	}
}

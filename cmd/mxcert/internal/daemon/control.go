package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/acme/fleet"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/deploy/dane"
)

// Order is what a command asks a daemon to do. A connection carries one order. The daemon answers with lines of progress; the last line
// holds the report. If the command closes the connection, the daemon finishes the passes that it has started, so that no deployment is
// taken back because nobody watches it; it starts no other.
type Order struct {
	Names       []string  `json:"names"`             // of certificates; empty: all
	Look        bool      `json:"look,omitempty"`    // only report; change nothing
	Examine     bool      `json:"examine,omitempty"` // with Look: report what the daemon finds with its secrets, see [Examine]
	Online      bool      `json:"online,omitempty"`  // with Examine: have the DNS providers create and remove records
	Force       bool      `json:"force,omitempty"`
	NewKey      bool      `json:"new_key,omitempty"`
	DeployOnly  bool      `json:"deploy_only,omitempty"`
	Rollback    bool      `json:"rollback,omitempty"`
	Shorter     bool      `json:"shorter,omitempty"`
	Asked       time.Time `json:"asked"`
	Fingerprint string    `json:"fingerprint"` // of the configuration that the command has read

	IgnoreDANE bool        `json:"ignore_dane,omitempty"`
	Roll       *dane.Asked `json:"roll,omitempty"`    // tlsa roll
	Publish    bool        `json:"publish,omitempty"` // tlsa publish
	Adopt      bool        `json:"adopt,omitempty"`

	Notify   bool     `json:"notify,omitempty"`   // with Look: send a test message; Names is empty
	Channels []string `json:"channels,omitempty"` // with Notify: by these channels; empty: by all
}

// line is one line of the answer: progress or, as the last line, the result.
type line struct {
	Certificate string `json:"certificate,omitempty"`
	Stage       string `json:"stage,omitempty"`
	Message     string `json:"message,omitempty"`

	Report *report.Report `json:"report,omitempty"`
	Seen   *Seen          `json:"seen,omitempty"`
	Sent   []Sent         `json:"sent,omitempty"`
	Refuse string         `json:"refuse,omitempty"` // why the daemon refuses the order
}

// controlPatience limits how long a command may take to send its order.
const controlPatience = 5 * time.Second

// controlPath returns where a daemon listens: in the directory that systemd made for it or, without one, in its state directory.
func controlPath(stateDirectory string) string {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, "control.sock")
	}
	return filepath.Join(stateDirectory, "control.sock")
}

// listen opens the control socket; the caller holds the daemon's lock. If there is no socket, commands do the work themselves under the
// daemon's locks.
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
			defer func() { _ = conn.Close() }() // the answer is sent, or the command has exited
			d.serve(ctx, conn)
		})
	}
}

// serve does what one command asks for. Only root and the service's own user may ask.
func (d *Daemon) serve(ctx context.Context, conn *wire.Conn) {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	send := func(l line) { // sends even after ctx has ended: the report says what was interrupted
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlPatience)
		defer cancel()
		_ = conn.Write(ctx, l) // the command may have exited
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
	gone := make(chan struct{})
	go func() { // the command sends nothing more; this read returns when it hangs up
		var nothing any
		_ = conn.Read(ctx, &nothing)
		close(gone)
		if order.Look {
			cancel() // nobody will read what is found
		}
	}()
	send(d.obey(ctx, order, gone, send))
}

// obey makes the passes, with the rights and the configuration of the daemon. When the command is gone, it starts no more.
func (d *Daemon) obey(ctx context.Context, asked Order, gone <-chan struct{}, send func(line)) line {
	w := d.current()
	if w.runner.Host.Fingerprint != asked.Fingerprint {
		select {
		case d.rereads <- struct{}{}: // somebody has just edited the file
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
	if asked.Notify {
		return d.sendTest(ctx, w.runner.Host, asked.Channels)
	}
	if asked.Examine {
		return line{Seen: d.examine(ctx, wants, asked.Online)}
	}
	if asked.Look {
		r := w.look(ctx, wants)
		r.Fleet = w.fleet()
		return line{Report: r}
	}
	options := pass.Options{Force: asked.Force, NewKey: asked.NewKey, DeployOnly: asked.DeployOnly, Rollback: asked.Rollback, Shorter: asked.Shorter,
		Asked: asked.Asked, IgnoreDANE: asked.IgnoreDANE, Roll: asked.Roll, Publish: asked.Publish, Adopt: asked.Adopt, Replaced: either(ctx, gone, w.waiting.Done())}
	return line{Report: report.Sum(Each(wants, func(want wanted.Certificate) report.Certificate {
		result := d.pass(ctx, &order{workload: w, want: want, options: options, gone: gone, log: d.log.With("certificate", want.Name, "asked", "by a command"),
			say: func(stage, message string) { send(line{Certificate: want.Name, Stage: stage, Message: message}) }})
		if !result.NextTLSA.IsZero() {
			w.sooner(want.Name, nextPass(result, time.Now()))
		}
		return result
	}))}
}

// either returns a channel that is closed when one of two is, or when ctx ends.
func either(ctx context.Context, one, other <-chan struct{}) <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		select {
		case <-one:
		case <-other:
		case <-ctx.Done():
		}
	}()
	return closed
}

// maxLive is how many endpoints a look asks at most. If there are more, it reports what they showed when they were last asked.
const maxLive = 64

// look reports how things are. It uses what the daemon remembers, as long as that is still right.
func (w *workload) look(ctx context.Context, wants []wanted.Certificate) *report.Report {
	endpoints := 0
	for _, want := range wants {
		endpoints += len(want.Endpoints()) * len(want.Keys)
	}
	files := w.runner.Helper.Looker()
	defer files.Close()
	return report.Sum(Each(wants, func(want wanted.Certificate) report.Certificate {
		return w.memory.Look(ctx, files, want, w.runner.Store.Lineage(want.Name), endpoints <= maxLive)
	}))
}

// fleet says how the store of the fleet is, as this daemon knows it; nil if this host is in none.
func (w *workload) fleet() *report.Fleet {
	if w.runner.Fleet == nil {
		return nil
	}
	return ReportFleet(w.runner.Host.Fleet, w.runner.Fleet.Health())
}

// ReportFleet says how the store of a fleet is.
func ReportFleet(of *wanted.Fleet, h fleet.Health) *report.Fleet {
	r := &report.Fleet{Name: of.Name, Host: of.Host, Engine: report.FleetEngine{Up: h.Up, Reason: h.Reason, Hint: h.Hint}, Faults: append([]string{}, h.Faults...)}
	if !h.Since.IsZero() {
		r.Engine.Since = new(h.Since.UTC())
	} else if !h.Up {
		r.Engine.Reason = "this host has not asked it yet"
	}
	return r
}

// Each makes a report on each certificate, several in parallel, and returns the reports in the order of the certificates.
func Each(wants []wanted.Certificate, one func(wanted.Certificate) report.Certificate) []report.Certificate {
	return together(wants, one)
}

// together does one thing for each certificate or channel, several in parallel, and returns the results in their order.
func together[W, T any](wants []W, one func(W) T) []T {
	results := make([]T, len(wants))
	var group errgroup.Group
	group.SetLimit(MaxPasses)
	for i, want := range wants {
		group.Go(func() error {
			results[i] = one(want)
			return nil
		})
	}
	_ = group.Wait() // the results have the errors
	return results
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

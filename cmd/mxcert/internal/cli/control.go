package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
)

// The control socket is how commands ask a running daemon to act, so that there is one worker with one user's rights. A
// connection carries one order: a line of JSON (controlOrder), answered by lines of JSON (controlLine), the last of which
// has the report. Closing the connection stops the work as SIGINT stops a command.

// controlOrder is what a command asks for.
type controlOrder struct {
	Names       []string  `json:"names"` // of certificates; none: all
	Force       bool      `json:"force,omitempty"`
	NewKey      bool      `json:"new_key,omitempty"`
	DeployOnly  bool      `json:"deploy_only,omitempty"`
	Rollback    bool      `json:"rollback,omitempty"`
	Shorter     bool      `json:"shorter,omitempty"`
	Asked       time.Time `json:"asked"`
	Fingerprint string    `json:"fingerprint"` // of the configuration as the command reads it
}

// controlLine is progress, or the end.
type controlLine struct {
	Certificate string `json:"certificate,omitempty"`
	Stage       string `json:"stage,omitempty"`
	Message     string `json:"message,omitempty"`

	Report *report `json:"report,omitempty"`
	Codes  []int   `json:"codes,omitempty"`  // exit codes of the certificates in the report
	Refuse string  `json:"refuse,omitempty"` // why the daemon does not do it
}

// controlPatience bounds how long a peer may take to say what it wants.
const controlPatience = 5 * time.Second

// controlPath is where a daemon listens: in the directory that systemd made for it, else in its state directory.
func controlPath(config *configs.Config) string {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, "control.sock")
	}
	return filepath.Join(config.State, "control.sock")
}

// listen opens the control socket. A socket that an earlier daemon left is replaced: this daemon holds the lock.
func (d *daemon) listen(ctx context.Context, config *configs.Config) (path string, stop func(), err error) {
	path = controlPath(config)
	listener, err := wire.Listen(path, 0o600)
	if err != nil {
		return "", nil, err
	}
	go d.accept(ctx, listener)
	return path, func() { _ = listener.Close() }, nil
}

func (d *daemon) accept(ctx context.Context, listener *wire.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		d.tending.Go(func() {
			defer func() { _ = conn.Close() }() // the answer is sent, or nobody waits for it
			d.serve(ctx, conn)
		})
	}
}

// serve does what one command asks for. Only root and the service's own user may ask.
func (d *daemon) serve(ctx context.Context, conn *wire.Conn) {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	send := func(line controlLine) { // also after ctx has ended: the report says what was interrupted
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlPatience)
		defer cancel()
		_ = conn.Write(ctx, line) // a command that is gone ends the work, see below
	}
	if err := conn.Admit(0, os.Geteuid()); err != nil {
		d.log.Warn("control socket: refused", "error", err)
		send(controlLine{Refuse: "root and the service's user may give orders: " + err.Error()})
		return
	}
	var order controlOrder
	patience, stop := context.WithTimeout(ctx, controlPatience)
	err := conn.Read(patience, &order)
	stop()
	if err != nil {
		send(controlLine{Refuse: "the order cannot be understood: " + err.Error()})
		return
	}
	go func() { // the command says nothing more: that it hangs up is all there is to read
		var nothing any
		_ = conn.Read(ctx, &nothing)
		cancel()
	}()
	send(d.obey(ctx, order, send))
}

// obey makes the passes, with the rights and the configuration of the daemon.
func (d *daemon) obey(ctx context.Context, order controlOrder, send func(controlLine)) controlLine {
	s := d.current()
	if s.world.fingerprint != order.Fingerprint {
		select {
		case d.rereads <- struct{}{}: // the file was edited a moment ago
			s = d.awaitConfiguration(ctx, order.Fingerprint)
		case <-ctx.Done():
		}
	}
	if s.world.fingerprint != order.Fingerprint {
		return controlLine{Refuse: "the daemon works with another configuration than the file has: is the file right (mxcert check), and is it the daemon's (systemctl status mxcert)?"}
	}
	certificates, err := chosen(s.world.config, order.Names)
	if err != nil {
		return controlLine{Refuse: err.Error()}
	}
	options := passOptions{force: order.Force, newKey: order.NewKey, deployOnly: order.DeployOnly, rollback: order.Rollback, shorter: order.Shorter, asked: order.Asked, replaced: s.waiting.Done()}
	r := &report{Certificates: make([]certificateReport, len(certificates))}
	var group errgroup.Group
	group.SetLimit(maxPasses)
	for i, c := range certificates {
		group.Go(func() error {
			r.Certificates[i] = d.passFor(ctx, s, c, options, send)
			return nil
		})
	}
	_ = group.Wait() // the passes report their errors themselves
	end := controlLine{Report: r}
	for _, c := range r.Certificates {
		r.Changed = r.Changed || c.Changed
		end.Codes = append(end.Codes, c.code)
	}
	return end
}

// passFor makes one pass for a command, whose progress goes to it and into the log.
func (d *daemon) passFor(ctx context.Context, s *shift, c configs.Certificate, options passOptions, send func(controlLine)) certificateReport {
	log := d.log.With("certificate", c.Name, "asked", "by a command")
	say := d.voice(ctx, log)
	p := &pass{world: s.world, certificate: c, options: options, say: func(stage, message string) {
		say(stage, message)
		send(controlLine{Certificate: c.Name, Stage: stage, Message: message})
	}}
	d.note(p, time.Now())
	defer d.note(p, time.Time{})
	result := p.run(ctx)
	d.logResult(ctx, p, result, log)
	return result
}

// awaitConfiguration waits until the daemon has read its files again.
func (d *daemon) awaitConfiguration(ctx context.Context, fingerprint string) *shift {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	for {
		s := d.current()
		if s.world.fingerprint == fingerprint {
			return s
		}
		select {
		case <-ctx.Done():
			return s
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *daemon) current() *shift {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shift
}

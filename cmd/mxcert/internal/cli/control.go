package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
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

	Report *report.Report `json:"report,omitempty"`
	Refuse string         `json:"refuse,omitempty"` // why the daemon does not do it
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

// listen opens the control socket. What an earlier daemon left there is removed: the daemon's lock is held.
func (d *daemon) listen(ctx context.Context, config *configs.Config) (path string, stop func(), err error) {
	path = controlPath(config)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return "", nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", nil, errors.Join(err, listener.Close())
	}
	go d.accept(ctx, listener)
	return path, func() { _ = listener.Close() }, nil
}

func (d *daemon) accept(ctx context.Context, listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return // closed
		}
		d.tending.Go(func() {
			defer func() { _ = conn.Close() }() // the answer is sent, or nobody waits for it
			d.serve(ctx, conn)
		})
	}
}

// serve does what one command asks for.
func (d *daemon) serve(ctx context.Context, conn *net.UnixConn) {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	answer := &controlWriter{encoder: json.NewEncoder(conn)}
	if err := checkPeer(conn); err != nil {
		d.log.Warn("control socket: refused", "error", err)
		answer.send(controlLine{Refuse: err.Error()})
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(controlPatience))
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	reader := bufio.NewReaderSize(conn, 64<<10)
	text, err := reader.ReadSlice('\n')
	var order controlOrder
	if err == nil {
		err = json.Unmarshal(text, &order)
	}
	if err != nil {
		answer.send(controlLine{Refuse: "the order cannot be understood: " + err.Error()})
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	go func() { // the command says nothing more: that it ends is all there is to read
		_, _ = reader.ReadByte()
		cancel()
	}()
	answer.send(d.obey(ctx, order, answer))
}

// controlWriter sends lines, one at a time. A peer that is gone ends the work by its closed connection.
type controlWriter struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (w *controlWriter) send(line controlLine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.encoder.Encode(line)
}

// obey makes the passes, with the rights and the configuration of the daemon.
func (d *daemon) obey(ctx context.Context, order controlOrder, answer *controlWriter) controlLine {
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
	r := &report.Report{Certificates: make([]report.Certificate, len(certificates))}
	var group errgroup.Group
	group.SetLimit(maxPasses)
	for i, c := range certificates {
		group.Go(func() error {
			r.Certificates[i] = d.passFor(ctx, s, c, options, answer)
			return nil
		})
	}
	_ = group.Wait() // the passes report their errors themselves
	return controlLine{Report: report.Sum(r.Certificates)}
}

// passFor makes one pass for a command, whose progress goes to it and into the log.
func (d *daemon) passFor(ctx context.Context, s *shift, c configs.Certificate, options passOptions, answer *controlWriter) report.Certificate {
	log := d.log.With("certificate", c.Name, "asked", "by a command")
	say := d.voice(ctx, log)
	p := &pass{world: s.world, certificate: c, options: options, say: func(stage, message string) {
		say(stage, message)
		answer.send(controlLine{Certificate: c.Name, Stage: stage, Message: message})
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

// checkPeer lets root and the service's own user in.
func checkPeer(conn *net.UnixConn) error {
	uid, err := peerUID(conn)
	if err != nil {
		return err
	}
	if uid != 0 && int(uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not give orders: root and the service's user may", uid)
	}
	return nil
}

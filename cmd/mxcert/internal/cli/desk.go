package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxcert/hooks/unit"

	"mxcert/cmd/mxcert/internal/report"
)

// The service has no privileges. Two things need some: writing to paths that belong to root, and the operator's hooks.
// Each is done by a program of its own, started by systemd as a unit of its own (mxcert-install@ID, mxcert-hook@ID), which
// comes to the service's desk for its orders: a socket that root alone may use, so that nothing passes through files.
// What a helper does is bounded by the configuration, which it reads itself: see helper.go.

// helperKind is the name of a helper and of its unit.
type helperKind string

const (
	installHelper helperKind = "install"
	hookHelper    helperKind = "hook"
)

const (
	// helperPatience is how long a helper may take to come.
	helperPatience = 20 * time.Second
	// maxHelperLine bounds one message between desk and helper.
	maxHelperLine = 16 << 20
)

// desk gives helpers their orders.
type desk struct {
	start    func(ctx context.Context, unit string) error
	listener *net.UnixListener

	mu      sync.Mutex
	waiting map[string]chan *helperConn // by kind and ID
}

// unprivileged reports whether this process is a service that needs helpers, and where their desk is.
func unprivileged() (dir string, ok bool) {
	dir, _, _ = strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return dir, os.Geteuid() != 0 && dir != ""
}

// openDesk listens for helpers; start starts a unit.
func openDesk(dir string, start func(context.Context, string) error) (*desk, error) {
	path := filepath.Join(dir, "helper.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	d := &desk{start: start, listener: listener, waiting: map[string]chan *helperConn{}}
	go d.accept()
	return d, nil
}

// deskIfNeeded opens the desk of an unprivileged service; nil for others.
func deskIfNeeded() (*desk, error) {
	dir, needed := unprivileged()
	if !needed {
		return nil, nil
	}
	return openDesk(dir, startUnit)
}

func (d *desk) close() {
	if d != nil {
		_ = d.listener.Close()
	}
}

// startUnit starts a helper's unit over D-Bus.
func startUnit(ctx context.Context, name string) error {
	m, err := unit.Connect(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Start(ctx, name)
}

func (d *desk) accept() {
	for {
		conn, err := d.listener.AcceptUnix()
		if err != nil {
			return // closed
		}
		go d.receive(conn)
	}
}

// receive takes a helper to whom waits for it.
func (d *desk) receive(conn *net.UnixConn) {
	h := newHelperConn(conn)
	_ = conn.SetDeadline(time.Now().Add(helperPatience))
	var hello helperHello
	err := checkRoot(conn)
	if err == nil {
		err = h.read(&hello)
	}
	_ = conn.SetDeadline(time.Time{})
	d.mu.Lock()
	defer d.mu.Unlock()
	who := string(hello.Helper) + "@" + hello.ID
	waiting := d.waiting[who]
	if err != nil || waiting == nil {
		_ = conn.Close()
		return
	}
	delete(d.waiting, who)
	waiting <- h
}

// call starts a helper and waits for it. The caller closes the connection.
func (d *desk) call(ctx context.Context, kind helperKind) (*helperConn, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	who, arrived := string(kind)+"@"+id, make(chan *helperConn, 1)
	d.mu.Lock()
	d.waiting[who] = arrived
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, who)
	}()
	name := "mxcert-" + who + ".service"
	if err := d.start(ctx, name); err != nil {
		return nil, err
	}
	select {
	case h := <-arrived:
		return h, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(helperPatience):
		return nil, &helperError{Message: fmt.Sprintf("mxcert's helper %s was started, but did not come to the desk", name), KindText: "helper",
			NextStep: "see why: journalctl -u " + name}
	}
}

// checkRoot lets nobody but root take orders.
func checkRoot(conn *net.UnixConn) error {
	if err := checkPeer(conn); err != nil {
		return err
	}
	uid, err := peerUID(conn)
	if err == nil && uid != 0 {
		err = fmt.Errorf("user %d is no helper", uid)
	}
	return err
}

// peerUID is the user at the other end of a socket.
func peerUID(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *syscall.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if peerErr != nil {
		return 0, peerErr
	}
	return peer.Uid, nil
}

// helperHello is what a helper says when it comes.
type helperHello struct {
	Helper helperKind `json:"helper"`
	ID     string     `json:"id"`
}

// helperConn carries lines of JSON.
type helperConn struct {
	net.Conn
	scanner *bufio.Scanner
}

func newHelperConn(conn net.Conn) *helperConn {
	h := &helperConn{Conn: conn, scanner: bufio.NewScanner(conn)}
	h.scanner.Buffer(nil, maxHelperLine)
	return h
}

func (h *helperConn) read(v any) error {
	if !h.scanner.Scan() {
		if err := h.scanner.Err(); err != nil {
			return err
		}
		return errors.New("the other end is gone")
	}
	return json.Unmarshal(h.scanner.Bytes(), v)
}

func (h *helperConn) write(v any) error { return json.NewEncoder(h).Encode(v) }

// ask sends a question and reads the answer; the end of ctx ends it.
func (h *helperConn) ask(ctx context.Context, question, answer any) error {
	defer context.AfterFunc(ctx, func() { _ = h.SetDeadline(time.Now()) })()
	err := h.write(question)
	if err == nil {
		err = h.read(answer)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &helperError{Message: "mxcert's helper broke off: " + err.Error(), KindText: "helper", NextStep: "see why: journalctl -u 'mxcert-*@*'"}
	}
	return nil
}

// helperError is an error that came from a helper, or of one.
type helperError struct {
	Message  string `json:"message"`
	KindText string `json:"kind"`
	NextStep string `json:"hint"`
}

// Error is the helper's message.
func (e *helperError) Error() string { return e.Message }

// Kind is the helper's word.
func (e *helperError) Kind() string { return e.KindText }

// Hint says what to do.
func (e *helperError) Hint() string { return e.NextStep }

// toHelperError makes an error fit for a message; nil stays nil.
func toHelperError(err error) *helperError {
	if err == nil {
		return nil
	}
	return &helperError{Message: err.Error(), KindText: report.KindOf(err), NextStep: report.HintOf(err)}
}

// orNil keeps a nil *helperError from becoming an error.
func (e *helperError) orNil() error {
	if e == nil {
		return nil
	}
	return e
}

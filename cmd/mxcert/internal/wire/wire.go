// Package wire carries messages between two processes of one host: lines of JSON over a unix socket, whose ends know
// which user the other end is.
//
// Every line is capped, every operation ends with its context, and who the other end is comes from the kernel
// (SO_PEERCRED, unix(7)), not from what it says. What the messages mean is for the two ends to agree on.
//
// Not supported: networks, other systems than Linux, and passing descriptors.
package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// MaxLine is the longest line that is read, in bytes: the report of some thousand certificates.
const MaxLine = 16 << 20

// ErrMalformed means that the other end has sent something that is not a message: no JSON, JSON of another shape, or
// more than MaxLine bytes.
var ErrMalformed = errors.New("not a message")

// Listener accepts connections at a path.
type Listener struct{ unix *net.UnixListener }

// Listen makes a socket with a mode. A socket that is left at the path is removed: the caller makes sure, by a lock of
// its own, that no other process listens there. Close removes the socket.
func Listen(path string, mode fs.FileMode) (*Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Listener{unix: l}, nil
}

// Accept waits for the next connection. After Close it returns an error.
func (l *Listener) Accept() (*Conn, error) {
	conn, err := l.unix.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return newConn(conn), nil
}

// Close stops listening and removes the socket. Connections stay open.
func (l *Listener) Close() error { return l.unix.Close() }

// Conn is one end of a connection. One goroutine may read while others write.
type Conn struct {
	unix    *net.UnixConn
	reader  *bufio.Reader
	writing sync.Mutex
}

func newConn(conn *net.UnixConn) *Conn { return &Conn{unix: conn, reader: bufio.NewReader(conn)} }

// Dial connects to the socket at a path.
func Dial(ctx context.Context, path string) (*Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return newConn(conn.(*net.UnixConn)), nil
}

// Inherit takes over a connection that another program has accepted for this one, as systemd does on standard input
// (Accept=yes in systemd.socket(5)). The file stays open, and belongs to the caller.
func Inherit(file *os.File) (*Conn, error) {
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("%s is not a connection: %w", file.Name(), err)
	}
	if unix, ok := conn.(*net.UnixConn); ok {
		return newConn(unix), nil
	}
	return nil, errors.Join(fmt.Errorf("%s is not a connection over a unix socket", file.Name()), conn.Close())
}

// Close hangs up.
func (c *Conn) Close() error { return c.unix.Close() }

// PeerUID returns the user at the other end: who connected or, for the end that dialed, who listens.
func (c *Conn) PeerUID() (int, error) {
	raw, err := c.unix.SyscallConn()
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
	return int(peer.Uid), nil
}

// Admit returns an error unless the other end is one of the users.
func (c *Conn) Admit(users ...int) error {
	uid, err := c.PeerUID()
	if err == nil && !slices.Contains(users, uid) {
		err = fmt.Errorf("the other end is user %d, and only %v may be", uid, users)
	}
	return err
}

// Write sends v as one message. The error is that of ctx if it ended first; the other end may have got a part then.
func (c *Conn) Write(ctx context.Context, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	defer until(ctx, c.unix.SetWriteDeadline)()
	if _, err := c.unix.Write(append(text, '\n')); err != nil {
		return orEnded(ctx, err)
	}
	return nil
}

// Read waits for the next message and stores it in v. The error is io.EOF if the other end has hung up, an
// [ErrMalformed], or that of ctx if it ended first. After an error the connection is of no use for reading.
func (c *Conn) Read(ctx context.Context, v any) error {
	defer until(ctx, c.unix.SetReadDeadline)()
	line, err := c.line()
	if err != nil {
		return orEnded(ctx, err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%w: %.200s", ErrMalformed, err.Error())
	}
	return nil
}

// Ask sends a question and waits for the answer.
func (c *Conn) Ask(ctx context.Context, question, answer any) error {
	if err := c.Write(ctx, question); err != nil {
		return err
	}
	return c.Read(ctx, answer)
}

// line reads up to the end of a line, which belongs to it: what comes before the end of the connection is no message.
func (c *Conn) line() ([]byte, error) {
	var line []byte
	for {
		part, err := c.reader.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxLine)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// until ends an operation when ctx does. The function that it returns is called after the operation, and leaves no
// deadline to the next one but its own.
func until(ctx context.Context, set func(time.Time) error) (done func()) {
	_ = set(time.Time{}) // a connection that takes no deadline is closed, which the operation reports
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = set(time.Unix(1, 0))
		close(fired)
	})
	return func() {
		if !stop() {
			<-fired
		}
	}
}

// orEnded prefers the error of a context that has ended: the operation failed because of it.
func orEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Package wire carries messages between two processes of one host: lines of JSON over a unix socket. Each end knows which user
// the other end is.
//
// The length of a line is limited, and every operation ends with its context. The kernel reports the user at the other end
// (SO_PEERCRED, unix(7)); the package does not rely on what the other end says. The two ends agree between themselves what the
// messages mean.
//
// Not supported: networks, systems other than Linux, and passing descriptors.
package wire

import (
	"bufio"
	"bytes"
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

// MaxLine is the length of the longest line that is read, in bytes. It is enough for a report of two thousand certificates.
const MaxLine = 4 << 20

// maxValues is how many values the longest line may have, in objects and lists. An empty object takes three bytes in a line, and some
// hundred in memory.
const maxValues = 100_000

// ErrMalformed means that the other side has sent something that is not a message: not JSON, JSON of another shape, more than MaxLine
// bytes, or more values than a message needs.
var ErrMalformed = errors.New("not a message")

// Listener accepts connections at a path.
type Listener struct{ unix *net.UnixListener }

// Listen makes a socket with a mode. Listen removes a socket that was left at the path: the caller makes sure, by a lock of its
// own, that no other process listens there. Close removes the socket.
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

// Conn is one end of a connection. One goroutine may read while others write. After an error in one direction, that direction
// cannot be used any more and returns the error again: the stream may stand in the middle of a message, or be one answer
// behind.
type Conn struct {
	unix    *net.UnixConn
	reader  *bufio.Reader
	readErr error

	writing  sync.Mutex
	writeErr error
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

// Inherit takes over a connection that another program has accepted for this one, as systemd does on standard input (Accept=yes in
// systemd.socket(5)). The file stays open; the caller closes it.
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

// Close ends the connection.
func (c *Conn) Close() error { return c.unix.Close() }

// PeerUID returns the user at the other end: the one who connected or, for the end that dialed, the one who listens.
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

// Admit returns an error unless the other side runs as one of the users.
func (c *Conn) Admit(users ...int) error {
	uid, err := c.PeerUID()
	if err == nil && !slices.Contains(users, uid) {
		err = fmt.Errorf("the other end is user %d; only %v may connect", uid, users)
	}
	return err
}

// Write sends v as one message. If ctx ends first, it returns the error of ctx.
func (c *Conn) Write(ctx context.Context, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.writeErr == nil {
		c.writeErr = during(ctx, c.unix.SetWriteDeadline, func() error {
			_, err := c.unix.Write(append(text, '\n'))
			return err
		})
	}
	return c.writeErr
}

// Read waits for the next message and stores it in v. The error is io.EOF if the other side has closed the connection, or an
// [ErrMalformed], or the error of ctx if ctx ends first.
func (c *Conn) Read(ctx context.Context, v any) error {
	if c.readErr != nil {
		return c.readErr
	}
	var line []byte
	c.readErr = during(ctx, c.unix.SetReadDeadline, func() (err error) {
		line, err = c.line()
		return err
	})
	if c.readErr != nil {
		return c.readErr
	}
	if values(line) > maxValues {
		c.readErr = fmt.Errorf("%w: more than %d values", ErrMalformed, maxValues)
		return c.readErr
	}
	if err := json.Unmarshal(line, v); err != nil {
		c.readErr = fmt.Errorf("%w: %.200s", ErrMalformed, err.Error())
	}
	return c.readErr
}

// Ask sends a question and waits for the answer.
func (c *Conn) Ask(ctx context.Context, question, answer any) error {
	if err := c.Write(ctx, question); err != nil {
		return err
	}
	return c.Read(ctx, answer)
}

// line reads one line, with its newline. Text that the end of the connection cuts off is not a message.
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

// values returns how many values a JSON text has, at most: marks within strings count, too.
func values(text []byte) int {
	return bytes.Count(text, []byte{'{'}) + bytes.Count(text, []byte{'['}) + bytes.Count(text, []byte{','})
}

// during calls do and ends it by a deadline when ctx ends. The next call removes the deadline. If do fails and ctx has ended,
// the error is that of ctx.
func during(ctx context.Context, deadline func(time.Time) error, do func() error) error {
	if err := errors.Join(ctx.Err(), deadline(time.Time{})); err != nil {
		return err
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = deadline(time.Unix(1, 0))
		close(fired)
	})
	err := do()
	if !stop() {
		<-fired
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

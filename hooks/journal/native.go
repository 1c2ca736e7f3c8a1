package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// socketFile is where journald listens.
const socketFile = "/run/systemd/journal/socket"

// native sends entries by the native protocol of the journal. Entries are small enough for one datagram.
//
// The function of go-systemd that does the same tries again and again while journald does not read, and keeps a processor busy. The socket here
// blocks: a thread sleeps in the kernel until there is room.
type native struct {
	open func() (int, error) // the socket, opened once
}

func newNative() *native {
	return &native{open: sync.OnceValues(func() (int, error) {
		return syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	})}
}

// send sends an entry. It blocks for as long as the queue of journald is full.
func (n *native) send(message string, priority systemd.Priority, fields map[string]string) error {
	fd, err := n.open()
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	var data bytes.Buffer
	field(&data, "PRIORITY", strconv.Itoa(int(priority)))
	field(&data, "MESSAGE", message)
	for name, value := range fields {
		field(&data, name, value)
	}
	for {
		err = syscall.Sendto(fd, data.Bytes(), syscall.MSG_NOSIGNAL, &syscall.SockaddrUnix{Name: socketFile})
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("send to %s: %w", socketFile, err)
		default:
			return nil
		}
	}
}

// field writes a field. The length of a value with line ends goes before it.
func field(to *bytes.Buffer, name, value string) {
	to.WriteString(name)
	if strings.Contains(value, "\n") {
		to.WriteByte('\n')
		to.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	} else {
		to.WriteByte('=')
	}
	to.WriteString(value)
	to.WriteByte('\n')
}

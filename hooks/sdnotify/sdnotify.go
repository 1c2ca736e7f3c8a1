// Package sdnotify reports to systemd how this service is doing. It sends the messages of sd_notify(3): ready, reloading, stopping, a
// status line, and a watchdog message, which it sends only while the service does real work.
//
// It works with Type=notify on systemd 252 and newer; Type=notify-reload (253) understands the same messages. If NOTIFY_SOCKET is not set,
// systemd has not started the service; all functions then do nothing and succeed. Each message has a deadline. The same package of
// go-systemd has none, so a busy systemd could block the service.
//
// Not supported: file descriptor store, MAINPID and messages on behalf of other processes, vsock addresses.
package sdnotify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// sendTimeout limits one message. The socket's queue is full while systemd is stopped or busy.
const sendTimeout = 5 * time.Second

// Ready reports that the service is up, or that a reload is over.
func Ready() error { return send("READY=1") }

// Reloading reports that the service is reading its configuration again. Call [Ready] when that is done, even if it failed.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("telling systemd about the reload: reading the monotonic clock: %w", err)
	}
	return send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping reports that the service is stopping.
func Stopping() error { return send("STOPPING=1") }

// Status sets the line that systemctl status shows. Line breaks become spaces, because each line would be a separate message.
func Status(text string) error {
	return send("STATUS=" + strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

// Watchdog returns the time within which systemd wants a message from this process (WatchdogSec=), and whether it wants one.
func Watchdog() (interval time.Duration, on bool) {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) || os.Getenv("NOTIFY_SOCKET") == "" {
		return 0, false
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, false // meant for another process, whose environment this one inherited
	}
	return time.Duration(usec) * time.Microsecond, true
}

// Feeder feeds systemd's watchdog while the work goes on. The zero Feeder is ready for use.
type Feeder struct{ beat atomic.Bool }

// Beat reports that the work makes progress. Call it at least every half watchdog interval. Call it from the loop that would hang if the
// service did, never from a separate timer. It never blocks.
func (f *Feeder) Beat() { f.beat.Store(true) }

// Run passes beats to systemd until ctx ends. Four times per watchdog interval it checks whether there was a beat since the last check, and
// sends a message only then. If a message could not be sent, it tries again at the next check. Without a watchdog it returns at once.
func (f *Feeder) Run(ctx context.Context) {
	interval, on := Watchdog()
	if !on {
		return
	}
	ticker := time.NewTicker(interval / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if f.beat.Swap(false) && send("WATCHDOG=1") != nil {
				f.beat.Store(true)
			}
		}
	}
}

// send writes one message to systemd's socket, if there is one.
func send(message string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if err := write(name, message, sendTimeout); err != nil {
		word, _, _ := strings.Cut(message, "=")
		return fmt.Errorf("telling systemd %s on NOTIFY_SOCKET: %w", word, err)
	}
	return nil
}

// write sends one datagram to a socket, which is a path or, after an @, an abstract name.
func write(name, message string, timeout time.Duration) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}

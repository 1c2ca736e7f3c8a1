package unit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const busName = "org.freedesktop.systemd1"

// dialPatience limits the time to connect to systemd.
const dialPatience = 15 * time.Second

var (
	errLost   = errors.New("connection lost") // the connection broke during a request
	errSilent = fmt.Errorf("no answer within %s", dialPatience)
)

// systemd is a connection to systemd. lost is closed when the connection ends or breaks.
type systemd struct {
	verbs
	lost <-chan struct{}
}

// connect connects to systemd over the system bus; DBUS_SYSTEM_BUS_ADDRESS can set another address. If this process is root and there is no
// bus, it uses systemd's own socket. The connection ends with ctx.
func connect(ctx context.Context) (*systemd, error) {
	s, err := connectBy(ctx, dialBus)
	if err != nil && os.Geteuid() == 0 {
		if direct, again := connectBy(ctx, dialSystemd); again == nil {
			return direct, nil
		}
	}
	return s, err
}

// connectBy makes the two connections that go-systemd wants, one for calls and one for signals.
func connectBy(ctx context.Context, dial func(context.Context) (*dbus.Conn, error)) (*systemd, error) {
	life, lose := context.WithCancel(ctx)
	patience := time.AfterFunc(dialPatience, lose)
	conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
		conn, err := dial(life)
		if err == nil {
			context.AfterFunc(conn.Context(), lose) // one connection is useless without the other
		}
		return conn, err
	})
	if inTime := patience.Stop(); !inTime && ctx.Err() == nil {
		err = errSilent
	}
	if err != nil {
		lose()
		return nil, &connectError{err}
	}
	return &systemd{verbs: conn, lost: life.Done()}, nil
}

// connectError marks a failure to reach systemd, in contrast to the failure of a request.
type connectError struct{ error }

// Unwrap returns the error of the connection.
func (e *connectError) Unwrap() error { return e.error }

// dialBus connects to the system bus and makes sure that systemd is there.
func dialBus(ctx context.Context) (*dbus.Conn, error) {
	filter := &fromSystemd{SignalHandler: dbus.NewSequentialSignalHandler()}
	conn, err := authenticate(dbus.SystemBusPrivate(dbus.WithContext(ctx), dbus.WithSignalHandler(filter)))
	if err != nil {
		return nil, err
	}
	var owner string
	if err = conn.Hello(); err == nil {
		err = conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, busName).Store(&owner)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	filter.owner.Store(&owner)
	return conn, nil
}

// dialSystemd connects to the socket that systemd keeps for root. The socket has no other clients, so signals need no filter.
func dialSystemd(ctx context.Context) (*dbus.Conn, error) {
	return authenticate(dbus.Dial("unix:path=/run/systemd/private", dbus.WithContext(ctx)))
}

func authenticate(conn *dbus.Conn, err error) (*dbus.Conn, error) {
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// fromSystemd passes on only signals from systemd itself. The bus lets every local user broadcast a JobRemoved, and go-systemd does not
// check the sender.
type fromSystemd struct {
	dbus.SignalHandler
	owner atomic.Pointer[string]
}

// DeliverSignal implements dbus.SignalHandler.
func (f *fromSystemd) DeliverSignal(intf, name string, signal *dbus.Signal) {
	if owner := f.owner.Load(); owner != nil && signal.Sender == *owner {
		f.SignalHandler.DeliverSignal(intf, name, signal)
	}
}

// AddSignal implements dbus.SignalRegistrar, without which dbus.Conn.Signal does nothing.
func (f *fromSystemd) AddSignal(ch chan<- *dbus.Signal) {
	f.SignalHandler.(dbus.SignalRegistrar).AddSignal(ch)
}

// RemoveSignal implements dbus.SignalRegistrar.
func (f *fromSystemd) RemoveSignal(ch chan<- *dbus.Signal) {
	f.SignalHandler.(dbus.SignalRegistrar).RemoveSignal(ch)
}

// Terminate implements dbus.Terminator, so that the reader of the signals ends with the connection.
func (f *fromSystemd) Terminate() { f.SignalHandler.(dbus.Terminator).Terminate() }

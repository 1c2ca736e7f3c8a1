package unit

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const busName = "org.freedesktop.systemd1"

// errLost is a connection that ended while it was needed.
var errLost = errors.New("connection lost")

// connect reaches systemd over the bus or, as root, over its own socket. The connection ends with ctx; lost is closed
// when it does, or when it breaks.
func connect(ctx context.Context) (systemd verbs, lost <-chan struct{}, err error) {
	systemd, lost, err = connectBy(ctx, dialBus)
	if err != nil && os.Geteuid() == 0 {
		if direct, lost, again := connectBy(ctx, dialSystemd); again == nil {
			return direct, lost, nil
		}
	}
	return systemd, lost, err
}

// connectBy makes the two connections that go-systemd wants, one for calls and one for signals.
func connectBy(ctx context.Context, dial func(context.Context) (*dbus.Conn, error)) (systemd verbs, lost <-chan struct{}, err error) {
	life, lose := context.WithCancel(ctx)
	conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
		conn, err := dial(life)
		if err == nil {
			context.AfterFunc(conn.Context(), lose) // one without the other is of no use
		}
		return conn, err
	})
	if err != nil {
		lose()
		return nil, nil, &connectError{err}
	}
	return conn, life.Done(), nil
}

// connectError tells failures of the way to systemd from those of a request.
type connectError struct{ error }

// Unwrap gives the error of the connection.
func (e *connectError) Unwrap() error { return e.error }

// dialBus opens the system bus and makes sure that systemd is there.
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

// dialSystemd opens the socket that systemd keeps for root, on which there is nobody else.
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

// fromSystemd passes on only the signals of systemd itself: the bus lets every local user broadcast a JobRemoved, and
// go-systemd does not look at the sender.
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

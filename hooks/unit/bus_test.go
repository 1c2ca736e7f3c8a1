package unit

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// busConfig is a bus of one's own, on which everybody may do everything, as systemd may on the system bus.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// startBus runs a real dbus-daemon, which the environment then names as the system bus. stop ends it early.
func startBus(t *testing.T) (address string, stop func()) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("dbus-daemon is required here: apt-get install dbus")
		}
		t.Skip("needs dbus-daemon: apt-get install dbus")
	}
	dir, err := os.MkdirTemp("", "bus") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, filepath.Join(dir, "socket")), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address=1")
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test is killed
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon says no address: %v", err)
	}
	address = strings.TrimSpace(line)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	return address, stop
}

func busConn(t *testing.T, address string, options ...dbus.ConnOption) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fakeSystemd is org.freedesktop.systemd1 with one behaviour a unit name.
type fakeSystemd struct {
	conn, stranger *dbus.Conn
	mu             sync.Mutex
	calls          []string        // every method call that reached it
	senders        map[string]bool // who made them
	jobs           uint32
	asked          chan string
}

func startSystemd(t *testing.T, address string) *fakeSystemd {
	t.Helper()
	return startSystemdWith(t, address, units)
}

// startSystemdWith knows other units.
func startSystemdWith(t *testing.T, address string, units map[string]map[string]any) *fakeSystemd {
	t.Helper()
	f := &fakeSystemd{stranger: busConn(t, address), asked: make(chan string, 100)}
	f.conn = busConn(t, address, dbus.WithIncomingInterceptor(f.record))
	if err := f.conn.ExportMethodTable(map[string]any{"ReloadUnit": f.reloadUnit}, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"); err != nil {
		t.Fatal(err)
	}
	for name, properties := range units {
		path := dbus.ObjectPath("/org/freedesktop/systemd1/unit/" + sd.PathBusEscape(name))
		if err := f.conn.Export(propertiesOf(properties), path, "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.conn.RequestName(busName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeSystemd) record(m *dbus.Message) {
	if m.Type != dbus.TypeMethodCall {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.senders == nil {
		f.senders = map[string]bool{}
	}
	f.senders[m.Headers[dbus.FieldSender].String()] = true
	f.calls = append(f.calls, strings.Trim(m.Headers[dbus.FieldInterface].String()+"."+m.Headers[dbus.FieldMember].String(), `"`))
}

// forget the calls so far.
func (f *fakeSystemd) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.senders = nil, nil
}

// callers counts the connections that have made calls.
func (f *fakeSystemd) callers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.senders)
}

// called lists which methods were called, each once.
func (f *fakeSystemd) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, call := range f.calls {
		list = append(list, strings.ReplaceAll(call, `"`, ""))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// refusals are the errors with which systemd answers at once, for each unit.
var refusals = map[string]*dbus.Error{
	"nosuch.service":      dbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"Unit nosuch.service not found."}),
	"oneshot.service":     dbus.NewError("org.freedesktop.systemd1.JobTypeNotApplicable", []any{"Job type reload is not applicable for unit oneshot.service."}),
	"masked.service":      dbus.NewError("org.freedesktop.systemd1.UnitMasked", []any{"Unit masked.service is masked."}),
	"denied.service":      dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Permission denied"}),
	"ask.service":         dbus.NewError("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", []any{"Interactive authentication required."}),
	"stopped.service":     dbus.NewError("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", []any{"Interactive authentication required."}),
	"nopolkit.service":    dbus.NewError("org.freedesktop.systemd1.UnitMasked", []any{"Unit polkit.service is masked."}),
	"destructive.service": dbus.NewError("org.freedesktop.systemd1.TransactionIsDestructive", []any{strings.Repeat("\x1b[31m", 100)}),
}

// reloadUnit is the Manager's method: the unit's name is the result of the job.
func (f *fakeSystemd) reloadUnit(name, mode string) (dbus.ObjectPath, *dbus.Error) {
	if err := refusals[name]; err != nil {
		return "", err
	}
	if mode != "replace" {
		return "", dbus.MakeFailedError(fmt.Errorf("mode %s", mode))
	}
	f.mu.Lock()
	f.jobs++
	id := f.jobs
	f.mu.Unlock()
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", id))
	removed := func(conn *dbus.Conn, result string) {
		_ = conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", id, job, name, result)
	}
	result := strings.TrimSuffix(name, ".service")
	switch result {
	case "hang":
	case "early": // the signal overtakes the reply
		removed(f.conn, "done")
	case "spoofed":
		removed(f.stranger, "failed")
		time.AfterFunc(50*time.Millisecond, func() { removed(f.conn, "done") })
	default:
		time.AfterFunc(time.Millisecond, func() { removed(f.conn, result) })
	}
	f.asked <- name
	return job, nil
}

// units are those that can be looked at.
var units = map[string]map[string]any{
	"exim4.service":     {"LoadState": "loaded", "ActiveState": "active", "CanReload": true},
	"postfix@-.service": {"LoadState": "loaded", "ActiveState": "reloading", "CanReload": true},
	"nosuch.service":    {"LoadState": "not-found", "ActiveState": "inactive"},
	"masked.service":    {"LoadState": "masked", "ActiveState": "inactive"},
	"bad.service":       {"LoadState": "bad-setting", "ActiveState": "inactive"},
	"stopped.service":   {"LoadState": "loaded", "ActiveState": "inactive", "CanReload": true},
	"crashed.service":   {"LoadState": "loaded", "ActiveState": "failed", "CanReload": true},
	"oneshot.service":   {"LoadState": "loaded", "ActiveState": "active", "CanReload": false},
}

// propertiesOf answers org.freedesktop.DBus.Properties for one unit.
type propertiesOf map[string]any

// GetAll is a method of the interface.
func (p propertiesOf) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	all := map[string]dbus.Variant{}
	for name, value := range p {
		all[name] = dbus.MakeVariant(value)
	}
	return all, nil
}

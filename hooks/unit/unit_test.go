package unit

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/deadline"
)

func testSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	address, _ := startBus(t)
	return startSystemd(t, address)
}

// assertError checks what every error must be: of the type, of the kind, with a hint, and harmless to print.
func assertError(t *testing.T, err error, kind string, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error of kind %s", err, kind)
	}
	if e.Kind() != kind {
		t.Errorf("kind %s, want %s: %v", e.Kind(), kind, err)
	}
	text := e.Error() + "\n" + e.Hint()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
	if e.Hint() == "" || strings.ContainsRune(text, '\x1b') || len(text) > 2000 {
		t.Errorf("message or hint is not fit to print: %q", text)
	}
}

// looking are the methods that are called and change nothing.
var looking = []string{"org.freedesktop.DBus.Properties.GetAll"}

func TestReloadResults(t *testing.T) {
	f := testSystemd(t)
	for _, test := range []struct {
		unit, kind string
		parts      []string
	}{
		{"done.service", "", nil},
		{"early.service", "", nil},
		{"spoofed.service", "", nil},
		{"failed.service", "failed", []string{"unit failed.service: ", "journalctl -u failed.service"}},
		{"canceled.service", "canceled", nil},
		{"timeout.service", "timeout", []string{"journalctl"}},
		{"dependency.service", "dependency", nil},
		{"skipped.service", "skipped", nil},
		{"invalid.service", "invalid", []string{"systemctl start invalid.service"}},
		{"surprise.service", "surprise", []string{`"surprise"`}},
		{"nosuch.service", "no-such-unit", []string{"not found"}},
		{"oneshot.service", "not-reloadable", []string{"CanReload"}},
		{"masked.service", "masked", nil},
		{"denied.service", "access-denied", []string{"polkit.addRule", `"denied.service"`, `== "reload"`}},
		{"ask.service", "access-denied", []string{"polkit.addRule"}},
		{"stopped.service", "inactive", []string{"systemctl start stopped.service"}}, // denied as well
		{"nopolkit.service", "access-denied", []string{"polkit.service is masked", "polkitd must be installed"}},
		{"destructive.service", "refused", []string{"…"}},
		{"exim4", "invalid-name", []string{"exim4.service"}},
		{"exim4.service; reboot", "invalid-name", nil},
		{"*.service", "invalid-name", nil},
		{"", "invalid-name", nil},
	} {
		t.Run(test.unit, func(t *testing.T) {
			err := Reload(t.Context(), test.unit)
			if test.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			assertError(t, err, test.kind, test.parts...)
		})
	}
	want := append(slices.Clone(looking), "org.freedesktop.systemd1.Manager.ReloadUnit")
	if got := f.called(); !slices.Equal(got, want) {
		t.Errorf("systemd was asked for %q, want %q", got, want)
	}
}

func TestReloadManyAtOnce(t *testing.T) {
	testSystemd(t)
	results := make(chan error)
	for range 20 {
		go func() { results <- Reload(t.Context(), "done.service") }()
	}
	for range 20 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestReloadStopsWaiting(t *testing.T) {
	f := testSystemd(t)
	over := deadline.New(t.Context())
	go func() {
		<-f.asked
		close(over.Over)
	}()
	err := Reload(over, "hang.service")
	assertError(t, err, "deadline", "in time", "journalctl -u hang.service")
	if !errors.Is(err, context.DeadlineExceeded) || !err.(*Error).Temporary() {
		t.Errorf("%v is no deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.asked
		cancel()
	}()
	assertError(t, Reload(ctx, "hang.service"), "interrupted")
	if err := Reload(t.Context(), "done.service"); err != nil {
		t.Errorf("the connection is of no use after a deadline: %v", err)
	}
}

func TestReloadLosesTheBus(t *testing.T) {
	address, stop := startBus(t)
	f := startSystemd(t, address)
	go func() {
		<-f.asked
		stop()
	}()
	assertError(t, Reload(t.Context(), "hang.service"), "bus-lost", "unknown")
	assertError(t, Reload(t.Context(), "done.service"), "bus-away", "unit done.service")
	assertError(t, Check(t.Context(), "exim4.service"), "bus-away")
}

// TestRestarts: systemd gets another name on the bus when it executes itself anew, and the bus may be restarted; neither
// may matter to a daemon that runs for months.
func TestRestarts(t *testing.T) {
	address, _ := startBus(t)
	for i := range 3 {
		f := startSystemd(t, address)
		if err := Reload(t.Context(), "done.service"); err != nil {
			t.Errorf("after %d restarts: %v", i, err)
		}
		f.conn.Close()
	}
	assertError(t, Check(t.Context(), "exim4.service"), "systemd-away")
}

func TestConnectFails(t *testing.T) {
	if _, err := os.Stat("/run/systemd/private"); err == nil && os.Geteuid() == 0 {
		t.Skip("root can reach the real systemd of this machine without a bus")
	}
	t.Run("no socket", func(t *testing.T) {
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
		assertError(t, Check(t.Context(), "exim4.service"), "bus-away", "no such file", "dbus installed", "unit exim4.service")
	})
	t.Run("no systemd on this host", func(t *testing.T) {
		if booted() {
			return // the end-to-end test asks in a container without systemd
		}
		err := Check(t.Context(), "exim4.service")
		assertError(t, err, "no-systemd", "unit exim4.service", `unit: ""`, "deploy.d", "mxcert(7)")
		if failed, _ := errors.AsType[*Error](err); failed.Temporary() {
			t.Error("waiting does not help, and the error says that it does")
		}
	})
	t.Run("no systemd", func(t *testing.T) {
		startBus(t)
		assertError(t, Check(t.Context(), "exim4.service"), "systemd-away")
	})
	t.Run("silence", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		assertError(t, Check(ctx, "exim4.service"), "deadline")
		assertError(t, Reload(ctx, "exim4.service"), "deadline")
	})
}

// TestNothingIsLeft: connections and their goroutines end with the call.
func TestNothingIsLeft(t *testing.T) {
	testSystemd(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) + runtime.NumGoroutine()
	}
	before := count()
	for range 10 {
		if err := Reload(t.Context(), "done.service"); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(time.Minute); count() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors and goroutines became %d", before, count())
		}
	}
}

func TestCheck(t *testing.T) {
	f := testSystemd(t)
	for unit, kind := range map[string]string{
		"nosuch.service": "no-such-unit", "masked.service": "masked", "bad.service": "not-loaded", "stopped.service": "inactive",
		"crashed.service": "inactive", "oneshot.service": "not-reloadable", "exim4": "invalid-name",
	} {
		assertError(t, Check(t.Context(), unit), kind)
	}
	for _, unit := range []string{"exim4.service", "postfix@-.service", "postfix.service"} { // the last is not there, its instance is
		if err := Check(t.Context(), unit); err != nil {
			t.Error(err)
		}
	}
	if got := f.called(); !slices.Equal(got, looking) {
		t.Errorf("systemd was asked for %q, want %q", got, looking)
	}
}

// Of postfix.service the instance is reloaded if that is what works, else postfix.service itself.
func TestPostfixInstance(t *testing.T) {
	instance := func(load, active string) map[string]any {
		return map[string]any{"LoadState": load, "ActiveState": active, "CanReload": true}
	}
	command := map[string]any{"LoadState": "loaded", "ActiveState": "active", "SubState": "exited", "CanReload": true}
	server := map[string]any{"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "CanReload": true}
	for what, tt := range map[string]struct {
		main, instance map[string]any
		want           string
	}{
		"Debian 12":                    {command, instance("loaded", "active"), "postfix@-.service"},
		"Debian 12, while it reloads":  {command, instance("loaded", "reloading"), "postfix@-.service"},
		"Debian 12, its instance down": {command, instance("loaded", "failed"), "postfix@-.service"},
		"Debian 13":                    {server, instance("loaded", "inactive"), "postfix.service"},
		"no instances":                 {server, instance("not-found", "inactive"), "postfix.service"},
	} {
		t.Run(what, func(t *testing.T) {
			address, _ := startBus(t)
			f := startSystemdWith(t, address, map[string]map[string]any{"postfix.service": tt.main, "postfix@-.service": tt.instance})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() { _ = Reload(ctx, "postfix.service") }() // its job ends with the word postfix or postfix@-
			select {
			case got := <-f.asked:
				if got != tt.want {
					t.Errorf("%s was reloaded, want %s", got, tt.want)
				}
			case <-ctx.Done():
				t.Error("nothing was reloaded")
			}
		})
	}
}

// TestOneConnection: a call connects once, whatever it has to ask: two connections to the bus, as go-systemd wants.
func TestOneConnection(t *testing.T) {
	f := testSystemd(t)
	for call, do := range map[string]func() error{
		"Check":                      func() error { return Check(t.Context(), "postfix.service") },
		"Reload":                     func() error { return Reload(t.Context(), "done.service") },
		"Reload that is not allowed": func() error { return Reload(t.Context(), "stopped.service") },
	} {
		f.forget()
		_ = do()
		if got := f.callers(); got != 1 {
			t.Errorf("%s: calls came from %d connections", call, got)
		}
	}
}

func TestQuestions(t *testing.T) {
	inactive, invalid, failed := &Error{Unit: "a", Result: "inactive"}, &Error{Unit: "b", Result: "invalid"}, &Error{Unit: "c", Result: "failed"}
	for _, c := range []struct {
		err                       error
		notRunning, misconfigured bool
	}{
		{nil, false, false},
		{errors.New("x"), false, false},
		{inactive, true, false},
		{fmt.Errorf("reload: %w", invalid), true, false},
		{errors.Join(inactive, invalid), true, false},
		{errors.Join(errors.New("another certificate is served"), inactive), false, false},
		{errors.Join(inactive, failed), false, false},
		{failed, false, false},
		{&Error{Result: "no-such-unit"}, false, true},
		{&Error{Result: "not-reloadable"}, false, true},
		{&Error{Result: "masked"}, false, true},
		{&Error{Result: "not-loaded"}, false, true},
		{fmt.Errorf("x: %w", &Error{Result: "invalid-name"}), false, true},
		{&Error{Result: "access-denied"}, false, false},
	} {
		if NotRunning(c.err) != c.notRunning || Misconfigured(c.err) != c.misconfigured {
			t.Errorf("%v: NotRunning %v, Misconfigured %v", c.err, NotRunning(c.err), Misconfigured(c.err))
		}
	}
}

func TestAway(t *testing.T) {
	for result, want := range map[string]bool{"bus-away": true, "systemd-away": true, "no-systemd": true, "inactive": false, "no-such-unit": false} {
		if got := Away(fmt.Errorf("x: %w", &Error{Result: result})); got != want {
			t.Errorf("%s: %v", result, got)
		}
	}
}

func TestPolkitRule(t *testing.T) {
	units := Names([]string{"postfix.service", "exim4.service", "exim4.service"})
	if want := []string{"exim4.service", "postfix.service", "postfix@-.service"}; !slices.Equal(units, want) {
		t.Errorf("Names = %q, want %q", units, want)
	}
	rule := PolkitRule(units)
	for _, part := range []string{`subject.user == "mxcert"`, `action.lookup("verb") == "reload"`, `["exim4.service", "postfix.service", "postfix@-.service"].indexOf(`} {
		if !strings.Contains(rule, part) {
			t.Errorf("%q is not in the rule:\n%s", part, rule)
		}
	}
	if rule := PolkitRule(nil); !strings.Contains(rule, "[].indexOf(") {
		t.Errorf("without a unit:\n%s", rule)
	}
}

func TestHintNamesTheSelfTest(t *testing.T) {
	for unit, part := range map[string]string{"exim4.service": "exim4 -bV", "postfix@-.service": "postfix check", "dovecot.service": "doveconf -n"} {
		assertError(t, &Error{Unit: unit, Result: "failed"}, "failed", part, "journalctl -u "+unit)
	}
}

// TestReloadIsTheOnlyVerb is invariant I6: the code has no way to start, stop, restart or signal anything. All calls go
// through the interface verbs, go-systemd is used for nothing but making the connection, and the only methods named by a
// string are the bus's own.
func TestReloadIsTheOnlyVerb(t *testing.T) {
	want := []string{"GetUnitPropertiesContext", "GetUnitTypePropertiesContext", "ReloadUnitContext"}
	var have []string
	for method := range reflect.TypeFor[verbs]().Methods() {
		have = append(have, method.Name)
	}
	if !slices.Equal(have, want) {
		t.Errorf("verbs has %q, want %q", have, want)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		checkSource(t, file)
	}
}

func checkSource(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range tree.Imports {
		if path := spec.Path.Value; path == `"os/exec"` || path == `"syscall"` || strings.HasSuffix(path, `/unix"`) {
			t.Errorf("%s imports %s", file, path)
		}
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.SelectorExpr:
			if from, ok := n.X.(*ast.Ident); ok && from.Name == "sd" && n.Sel.Name != "NewConnection" {
				t.Errorf("%s uses %s of go-systemd", file, n.Sel.Name)
			}
			if strings.HasPrefix(n.Sel.Name, "Call") || n.Sel.Name == "Go" || n.Sel.Name == "Object" {
				if call := string(text[n.Pos()-1 : n.End()-1]); call != "conn.BusObject().CallWithContext" {
					t.Errorf("%s makes a call of its own: %s", file, call)
				}
			}
		case *ast.BasicLit:
			if strings.Contains(n.Value, "systemd1.Manager") {
				t.Errorf("%s names a method: %s", file, n.Value)
			}
		}
		return true
	})
}

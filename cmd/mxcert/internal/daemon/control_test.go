package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/wire"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// A daemon carries out the orders of commands, says how far it has come, and reports; after it, the socket is gone.
func TestOrders(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	first := h.look().Keys[0].Serial
	var stages []string
	r, err := h.asks(t.Context(), Order{Force: true}, func(certificate, stage, _ string) { stages = append(stages, certificate+" "+stage) })
	h.check(err)
	if c := r.Certificates[0]; !r.Changed || c.Stage != report.Served || c.Keys[0].Serial == first || h.placed() != 2 {
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
	for _, stage := range []string{"mx order", "mx propagation", "mx issued", "mx verify"} {
		if !slices.Contains(stages, stage) {
			t.Errorf("the progress lacks %q: %q", stage, stages)
		}
	}
	if !d.log.has("certificate in service", `asked="by a command"`) {
		t.Errorf("the log does not say who asked for it:\n%s", d.log)
	}
	if c := h.asked(report.CodeOK, Order{Names: []string{"mx"}, Rollback: true}); c.Keys[0].Serial != first {
		t.Errorf("rollback: %+v", c)
	}
	unlock, err := h.lineage().Lock(t.Context())
	h.check(err)
	if c := h.asked(report.CodeOK, Order{Look: true}); c.Stage != report.Served || c.Changed { // which waits for no pass, and makes none
		t.Errorf("a look: %+v", c)
	}
	unlock()
	if _, err := h.ask(Order{Names: []string{"mx", "nothere"}}); err == nil || err.Error() != `the configuration has no certificate "nothere"; it has: mx` {
		t.Errorf("a name that is not configured: %v", err)
	}
	h.edit("timeout: 30s}\nstate", "timeout: 1s}\nstate")
	h.check(h.SMTP.Close())
	h.asked(report.CodeNotInService, Order{Force: true})
	d.stop()
	if _, err := os.Stat(h.Path("state", "control.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left (%v)", err)
	}
	if _, err := h.ask(Order{}); !errors.Is(err, ErrNone) {
		t.Errorf("after the stop: %v", err)
	}
}

// An edit that the daemon has not read yet is read before a command's work. The watch, which notices it too, does not load it a
// second time: the command's pass would be replaced.
func TestOrderAfterAnEdit(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{DNSLag: time.Second}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	h.edit("host7.example.org", "host8.example.org")
	if c := h.asked(report.CodeOK, Order{}); len(c.Names) != 2 || c.Names[1] != "host8.example.org" || !slices.Contains(h.deployedLeaf().DNSNames, "host8.example.org") {
		t.Errorf("%+v", c)
	}
	time.Sleep(time.Second) // twice as long as the watch takes to report a change
	if n := d.log.count("configuration loaded"); n != 1 || !d.log.has("configuration loaded", "a command found it changed") {
		t.Errorf("the configuration was loaded %d times:\n%s", n, d.log)
	}
	d.stop()
}

// The daemon finishes a pass although the command that asked for it was stopped, and starts none that has waited for its turn.
func TestStoppedCommand(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	hold, held := make(chan struct{}), make(chan struct{}, 9)
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Finalize {
				held <- struct{}{}
				select {
				case <-hold:
				case <-r.Context().Done():
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() {
		_, err := h.asks(ctx, Order{Force: true}, func(string, string, string) {})
		stopped <- err
	}()
	<-held
	waits, leave := context.WithCancel(t.Context())
	waiting, second := make(chan struct{}), make(chan error)
	go func() {
		_, err := h.asks(waits, Order{Force: true, Asked: time.Now().Add(time.Hour)}, func(_, stage, _ string) {
			if stage == "lock" {
				close(waiting)
			}
		})
		second <- err
	}()
	<-waiting
	for stop, ended := range map[*context.CancelFunc]chan error{&cancel: stopped, &leave: second} {
		(*stop)()
		err := <-ended
		if report.CodeOf(err) != report.CodeInterrupted || report.KindOf(err) != "interrupted" || !strings.Contains(err.Error(), "the daemon finishes") || !strings.Contains(report.HintOf(err), "mxcert status") {
			t.Errorf("interrupted: %v", err)
		}
	}
	close(hold)
	eventually(t, "the certificate that was asked for", func() bool { return d.log.count("certificate in service") == 2 })
	if c := h.asked(report.CodeOK, Order{}); c.Changed || c.Stage != report.Served || h.placed() != 2 || d.log.has("pass failed") {
		t.Errorf("%d orders, %+v\n%s", h.placed(), c, d.log)
	}
	d.stop()
}

// A command whose time is over leaves the daemon at work, too; one that only looks has nothing to leave.
func TestTimeOfACommandIsOver(t *testing.T) {
	t.Parallel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	err := interrupted(late, Order{}, late.Err())
	if report.CodeOf(err) != report.CodeTemporary || report.KindOf(err) != "timeout" || !strings.Contains(err.Error(), "the daemon finishes") {
		t.Errorf("%v", err)
	}
	if err := interrupted(late, Order{Look: true}, late.Err()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a look: %v", err)
	}
}

// Fifty commands at once: one order.
func TestFiftyOrders(t *testing.T) {
	t.Parallel()
	// The lag keeps the first order open until all the others have asked.
	h := newHost(t, lab.Options{DNSLag: 3 * time.Second}, lab.ConfigOptions{})
	h.pass(report.CodeOK, pass.Options{})
	d := h.daemon()
	d.awaitLog("sleeps")
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if c := h.renew(); c.Code != report.CodeOK || c.Stage != report.Served {
				t.Errorf("%+v", c)
			}
		})
	}
	wait.Wait()
	if n := h.placed(); n != 2 {
		t.Errorf("%d orders", n)
	}
}

// Two daemons and twenty commands start at once, on a host without a certificate: one daemon stays, the other says why it does
// not, all commands succeed, and there is one order.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	// The lag keeps the first order open until all the others have asked.
	h := newHost(t, lab.Options{DNSLag: 3 * time.Second}, lab.ConfigOptions{})
	daemons := []*running{h.daemon(), h.daemon()}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if c := h.renew(); c.Code != report.CodeOK {
				t.Errorf("%+v, %+v", c, c.Error)
			}
		})
	}
	var err error
	stays := daemons[0]
	select {
	case err = <-daemons[0].ended:
		stays = daemons[1]
	case err = <-daemons[1].ended:
	case <-time.After(time.Minute):
		t.Fatal("both daemons stay")
	}
	if report.CodeOf(err) != report.CodeTemporary || !strings.Contains(err.Error(), "another mxcert run") {
		t.Errorf("the second daemon ends with %v", err)
	}
	wait.Wait()
	if n := h.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}
	if Running(h.store()) == nil || h.look().Stage != report.Served {
		t.Errorf("%+v", h.look())
	}
	if c := h.asked(report.CodeOK, Order{Force: true}); h.placed() != 2 { // the socket of the one that stays is still there
		t.Errorf("%d orders, %+v", h.placed(), c)
	}
	stays.stop()
}

// What is no order is refused, and so is an order for another configuration than the daemon's.
func TestControlSocketRefuses(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	d := h.daemon()
	d.awaitLog("certificate in service")
	var wait sync.WaitGroup
	for text, why := range map[string]string{
		"GET / HTTP/1.1\r\n":                "cannot be understood",
		strings.Repeat("x", 100<<10) + "\n": "cannot be understood",
		`["mx"]` + "\n":                     "cannot be understood",
		"{}\n":                              "a configuration that differs",
		`{"names":["mx"],"fingerprint":"other"}` + "\n":      "a configuration that differs",
		`{"names":["mx"],"fingerprint":"half an order"` + "": "cannot be understood",
	} {
		wait.Go(func() {
			conn, err := net.Dial("unix", h.Path("state", "control.sock"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, text)
			_ = conn.SetReadDeadline(time.Now().Add(4 * controlPatience))
			if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), `"refuse"`) || !strings.Contains(string(answer), why) {
				t.Errorf("%.30q is answered by %q", text, answer)
			}
		})
	}
	wait.Wait()
	if h.placed() != 1 {
		t.Errorf("%d orders", h.placed())
	}
}

// Only root and the service's user may give orders, even if the socket's mode would let others.
func TestControlSocketRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, log := h.atRest()
	dir := shortDir(t)
	h.check(os.Chmod(dir, 0o755))
	defer d.listen(t.Context(), dir)()
	path := controlPath(dir)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	h.check(os.Chmod(path, 0o666))
	order := `{"names":[],"fingerprint":"` + h.wants().Fingerprint + `"}` + "\n"
	var answer []byte
	var err error
	asOther(t, func() {
		var conn net.Conn
		if conn, err = net.Dial("unix", path); err == nil {
			_, _ = io.WriteString(conn, order)
			answer, err = io.ReadAll(conn)
		}
	})
	if err != nil && len(answer) == 0 || !strings.Contains(string(answer), "root and the service's user may give orders") || strings.Contains(string(answer), "report") {
		t.Errorf("the answer is %q, %v", answer, err)
	}
	if !log.has("level=WARN", "control socket: refused", "user 65534") {
		t.Errorf("log:\n%s", log)
	}
}

// The socket is in the directory that systemd made for it, else in the state directory.
func TestControlPath(t *testing.T) {
	for runtime, want := range map[string]string{"": "/state/control.sock", "/run/mxcert": "/run/mxcert/control.sock", "/run/mxcert:/run/other": "/run/mxcert/control.sock"} {
		t.Setenv("RUNTIME_DIRECTORY", runtime)
		if got := controlPath("/state"); got != want {
			t.Errorf("with %q: %s, want %s", runtime, got, want)
		}
	}
}

// Without a socket the daemon works, and commands find out that they have to do the work themselves.
func TestNoControlSocket(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, log := h.atRest()
	d.listen(t.Context(), h.Path(strings.Repeat("long", 30)))()
	if !log.has("level=WARN", "commands cannot ask this daemon") || d.status.Socket != "" {
		t.Errorf("socket %q, log:\n%s", d.status.Socket, log)
	}
}

// What a command makes of a daemon that is not there, is not the service's, or does not answer as it should.
func TestAsk(t *testing.T) {
	t.Parallel()
	h := desert(t)
	store := h.store()
	ask := func(ctx context.Context) error {
		_, err := Ask(ctx, store, Order{}, func(string, string, string) {})
		return err
	}
	if err := ask(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("no daemon has ever run: %v", err)
	}
	path := shortDir(t) + "/control.sock"
	for what, left := range map[string]report.Daemon{
		"it has no socket":      {PID: os.Getpid()},
		"its socket is gone":    {PID: os.Getpid(), Socket: path},
		"it has ended":          {PID: deadPID(t), Socket: path},
		"it has no process":     {Socket: path},
		"a path is too long":    {PID: os.Getpid(), Socket: "/" + strings.Repeat("x", 200)},
		"a process group, no 1": {PID: -1, Socket: path},
	} {
		h.check(store.SaveDaemon(left))
		if err := ask(t.Context()); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.check(store.SaveDaemon(report.Daemon{PID: os.Getpid(), Socket: path}))
	listener, err := wire.Listen(path, 0o600)
	h.check(err)
	defer listener.Close()
	for _, tt := range []struct {
		what   string
		answer func(*wire.Conn)
		code   report.Code
		says   string
	}{
		{"a refusal", func(c *wire.Conn) { _ = c.Write(t.Context(), line{Refuse: "not today"}) }, report.CodeFailed, "not today"},
		{"a report", func(c *wire.Conn) { _ = c.Write(t.Context(), line{Report: &report.Report{}}) }, report.CodeOK, ""},
		{"progress and a report", func(c *wire.Conn) {
			_ = c.Write(t.Context(), line{Certificate: "mx", Stage: "order"})
			_ = c.Write(t.Context(), line{Report: &report.Report{}})
		}, report.CodeOK, ""},
		{"the end before the report", func(c *wire.Conn) { _ = c.Write(t.Context(), line{Certificate: "mx", Stage: "order"}) }, report.CodeTemporary, "the daemon ended before the work was done"},
		{"another shape", func(c *wire.Conn) { _ = c.Write(t.Context(), []string{"mx"}) }, report.CodeFailed, "cannot be understood"},
	} {
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			var o Order
			if conn.Read(t.Context(), &o) == nil {
				tt.answer(conn)
			}
		}()
		err := ask(t.Context())
		if report.CodeOf(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ask(ctx); report.KindOf(err) != "timeout" || report.CodeOf(err) != report.CodeTemporary { // nobody accepts
		t.Errorf("a daemon that says nothing: %v", err)
	}
}

// A socket that another user has made is not the daemon's.
func TestAskRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	h := desert(t)
	store := h.store()
	dir := shortDir(t)
	h.check(os.Chmod(dir, 0o777))
	path := dir + "/control.sock"
	h.check(store.SaveDaemon(report.Daemon{PID: os.Getpid(), Socket: path}))
	var listener *wire.Listener
	var err error
	asOther(t, func() { listener, err = wire.Listen(path, 0o666) })
	h.check(err)
	defer listener.Close()
	if _, err := Ask(t.Context(), store, Order{}, func(string, string, string) {}); err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "does not belong to the daemon") {
		t.Errorf("%v", err)
	}
	// If the state belongs to that user, that is the service's.
	h.check(os.Chown(h.Path("state"), otherUser, -1))
	go func() {
		for { // the one that was refused has its place in the queue
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Write(t.Context(), line{Report: &report.Report{}})
			defer conn.Close()
		}
	}()
	if _, err := Ask(t.Context(), store, Order{}, func(string, string, string) {}); err != nil {
		t.Errorf("the service's own: %v", err)
	}
}

func TestOwnerOf(t *testing.T) {
	t.Parallel()
	if got := ownerOf(t.TempDir()); got != os.Geteuid() {
		t.Errorf("user %d", got)
	}
	if got := ownerOf(t.TempDir() + "/missing"); got != -1 {
		t.Errorf("of a missing file: user %d", got)
	}
}

// Reports come in the order of the certificates, and a bounded number is under way at once.
func TestEach(t *testing.T) {
	t.Parallel()
	wants := make([]wanted.Certificate, 3*MaxPasses)
	for i := range wants {
		wants[i].Name = strings.Repeat("x", i)
	}
	var now, most atomic.Int64
	reports := Each(wants, func(want wanted.Certificate) report.Certificate {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		return report.Certificate{Name: want.Name}
	})
	for i, r := range reports {
		if r.Name != wants[i].Name {
			t.Errorf("report %d is on %s", i, r.Name)
		}
	}
	if len(reports) != len(wants) || most.Load() > MaxPasses {
		t.Errorf("%d reports, %d at once", len(reports), most.Load())
	}
}

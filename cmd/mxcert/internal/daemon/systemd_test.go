package daemon

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
)

// service is what `mxcert run` does, without its command line.
func service(configFile string) (code int) {
	syscall.Umask(0o077)
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newDaemon(configFile, os.Stderr).Run(ctx); err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	return 0
}

// inbox is the socket at which systemd takes messages.
type inbox struct {
	path string

	mu       sync.Mutex
	messages []string
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	b := &inbox{path: shortDir(t) + "/notify"}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for buffer := make([]byte, 4096); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			b.mu.Lock()
			b.messages = append(b.messages, string(buffer[:n]))
			b.mu.Unlock()
		}
	}()
	return b
}

// slow matches what systemd is told about a slow pass.
var slow = regexp.MustCompile(`; mx (waits for|is at work).* since `)

// all are the messages so far, without those that feed the watchdog or are about a pass that a busy machine makes slow, and without repetitions: a pass that ends beside a reload shows the same
// status.
func (b *inbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Compact(slices.DeleteFunc(slices.Clone(b.messages), func(m string) bool { return m == "WATCHDOG=1" || slow.MatchString(m) }))
}

func (b *inbox) watchdog() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		if m == "WATCHDOG=1" {
			n++
		}
	}
	return n
}

// The daemon as a service of systemd: what it says, in which order, and how it takes signals.
func TestService(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	systemd := newInbox(t)
	exe, err := os.Executable()
	h.check(err)
	cmd := exec.CommandContext(t.Context(), exe)
	// A program that was built with -race otherwise sleeps for a second before it ends.
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0", serviceOf + "=" + h.config, "NOTIFY_SOCKET=" + systemd.path, "WATCHDOG_USEC=400000"}
	stdout, journal := &bytes.Buffer{}, &transcript{}
	cmd.Stdout, cmd.Stderr = stdout, journal
	h.check(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("systemd was told: %q\njournal:\n%s", systemd.all(), journal)
		}
	})
	told := func(want ...string) {
		t.Helper()
		eventually(t, strings.Join(want, ", "), func() bool { return len(systemd.all()) >= len(want) })
		for i, got := range systemd.all() {
			if i >= len(want) || !regexp.MustCompile("^(?s:"+want[i]+")$").MatchString(got) {
				t.Fatalf("systemd was told %q, want %q", systemd.all(), want)
			}
		}
	}
	const well = `STATUS=1 certificate, all is well; next renewal: mx, \d+-\d\d-\d\d \d\d:\d\d UTC`
	start := []string{"STATUS=1 certificate", "READY=1", well}
	told(start...)
	eventually(t, "the first certificate", func() bool { return journal.has("certificate in service") })
	eventually(t, "food for the watchdog", func() bool { return systemd.watchdog() >= 3 })

	// A reload without a change.
	h.check(cmd.Process.Signal(syscall.SIGHUP))
	reload := append(start, `RELOADING=1\nMONOTONIC_USEC=\d+`, well, "READY=1")
	told(reload...)

	// One with a bad configuration: the service stays up, and says what is wrong.
	text := h.text()
	h.edit("domains:", "domians:")
	h.check(cmd.Process.Signal(syscall.SIGHUP))
	refused := []string{`RELOADING=1\nMONOTONIC_USEC=\d+`, `STATUS=bad configuration, the old one stays in force: .*domians.*`, "READY=1"}
	bad := append(append(reload, refused...), refused...) // by the signal, and because the file has changed
	told(bad...)
	fed := systemd.watchdog()
	eventually(t, "more food for the watchdog", func() bool { return systemd.watchdog() >= fed+2 })

	h.write(text)
	fixed := append(bad, `RELOADING=1\nMONOTONIC_USEC=\d+`, well, "READY=1")
	told(fixed...)

	// SIGTERM: nothing but the end.
	stopped := time.Now()
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
	if took := time.Since(stopped); took > 20*time.Second {
		t.Errorf("the way out took %s", took)
	}
	told(append(fixed, "STOPPING=1")...)
	if stdout.Len() > 0 {
		t.Errorf("on standard output: %s", stdout)
	}
}

// A service that systemd cannot hear works all the same, and says so.
func TestSystemdIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", shortDir(t)+"/gone")
	h := desert(t)
	d, log := h.atRest()
	d.reload(ended(), "SIGHUP")
	if !log.has("level=WARN", "systemd could not be notified", "STATUS") || !log.has("level=WARN", "systemd could not be notified", "READY") || !log.has("configuration loaded") {
		t.Errorf("log:\n%s", log)
	}
}

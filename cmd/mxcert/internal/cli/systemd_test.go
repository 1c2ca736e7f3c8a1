package cli

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
)

// inbox is the socket at which systemd takes messages.
type inbox struct {
	path string

	mu       sync.Mutex
	messages []string
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &inbox{path: dir + "/notify"}
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

// all are the messages so far, without those that feed the watchdog.
func (b *inbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.messages), func(m string) bool { return m == "WATCHDOG=1" })
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

// The daemon as a service of systemd: what it tells, in which order, and how it takes signals.
func TestService(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.edit("DNSUPDATE_TSIG_SECRET: ", "DNSUPDATE_TSIG_SECRET: \""+h.Secret()+"\" # ") // worth a warning
	systemd := newInbox(t)
	exe, err := os.Executable()
	h.check(err)
	cmd := exec.CommandContext(t.Context(), exe, "-c", h.config, "run")
	cmd.Args[0] = "mxcert"
	cmd.Env = []string{"GORACE=" + noSleep, "NOTIFY_SOCKET=" + systemd.path, "WATCHDOG_USEC=400000", "JOURNAL_STREAM=8:1"}
	stdout, journal := &bytes.Buffer{}, &transcript{}
	cmd.Stdout, cmd.Stderr = stdout, journal
	h.check(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("told: %q\njournal:\n%s", systemd.all(), journal)
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
	start := []string{"STATUS=1 certificate", "READY=1"}
	told(start...)
	eventually(t, "the first certificate", func() bool { return strings.Contains(journal.String(), "certificate in service") })
	eventually(t, "food for the watchdog", func() bool { return systemd.watchdog() >= 3 })
	if n := strings.Count(journal.String(), "the secret stands in the configuration file"); n != 1 {
		t.Errorf("the warning about the configuration is there %d times", n)
	}
	if strings.Contains(journal.String(), "time=") {
		t.Error("the journal has a time of its own, and this is another")
	}

	// A reload without a change.
	h.check(cmd.Process.Signal(syscall.SIGHUP))
	reload := append(start, `RELOADING=1\nMONOTONIC_USEC=\d+`, "STATUS=1 certificate", "READY=1")
	told(reload...)

	// One with a bad configuration: the service stays up, and says what is wrong.
	text, err := os.ReadFile(h.config)
	h.check(err)
	h.edit("domains:", "domians:")
	h.check(cmd.Process.Signal(syscall.SIGHUP))
	refused := []string{`RELOADING=1\nMONOTONIC_USEC=\d+`, `STATUS=bad configuration, the old one stays in force: .*domians.*`, "READY=1"}
	bad := append(append(reload, refused...), refused...) // by the signal, and because the file has changed
	told(bad...)
	fed := systemd.watchdog()
	eventually(t, "more food for the watchdog", func() bool { return systemd.watchdog() >= fed+2 })

	h.write(string(text))
	mended := append(bad, `RELOADING=1\nMONOTONIC_USEC=\d+`, "STATUS=1 certificate", "READY=1")
	told(mended...)

	// SIGTERM: nothing but the end.
	began := time.Now()
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the way out took %s", took)
	}
	told(append(mended, "STOPPING=1")...)
	if stdout.Len() > 0 {
		t.Errorf("on standard output: %s", stdout)
	}
	if strings.Contains(journal.String(), h.Secret()) {
		t.Error("the secret is in the journal")
	}
}

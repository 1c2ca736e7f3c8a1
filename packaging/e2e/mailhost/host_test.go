package mailhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func boot(t *testing.T, o Options) *Host {
	t.Helper()
	Require(t)
	o.Logf = t.Logf
	h, err := Boot(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Kill)
	return h
}

// traces lists what is left on this machine of a host.
func traces(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/mxcert-e2e-", "/sys/fs/cgroup/*/mxcert-e2e-", filepath.Join(os.TempDir(), "mxcert-e2e/run-")} {
		paths, err := filepath.Glob(pattern + name)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			found = append(found, line)
		}
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if text, _ := os.ReadFile(c); strings.Contains(string(text), name) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

func TestHostsDoNotDisturbEachOther(t *testing.T) {
	first := boot(t, Options{Files: []File{{Path: "/etc/mailname", Content: []byte("first.example.org\n"), Mode: 0o644}}})
	second := boot(t, Options{})
	a, err := first.Get("/etc/mailname")
	if err != nil {
		t.Fatal(err)
	}
	b, err := second.Get("/etc/mailname")
	if err != nil || string(a) == string(b) {
		t.Errorf("both hosts have the mailname %q, %v", b, err)
	}
	// A unit that is stopped has all processes of its cgroup killed; the other host's unit has the same name.
	if _, err := first.Must(t.Context(), "systemctl", "stop", "exim4.service", "named.service"); err != nil {
		t.Fatal(err)
	}
	if _, err := second.ServedBy(t.Context(), "[::1]:25", "", ""); err != nil {
		t.Error(err)
	}
	if _, err := first.ServedBy(t.Context(), "[::1]:25", "", ""); err == nil {
		t.Error("Exim of the first host serves, though it was stopped")
	}
	if err := first.PowerOff(t.Context()); err != nil {
		t.Error(err)
	}
	if left := traces(t, first.Name); len(left) > 0 {
		t.Errorf("left of a host that was powered off: %q", left)
	}
	if _, err := second.Must(t.Context(), "systemctl", "is-active", "exim4.service", "named.service"); err != nil {
		t.Error(err)
	}
	if _, err := first.Run(t.Context(), "true"); err == nil {
		t.Error("a program ran in a host that is down")
	}
	second.Kill()
	left := traces(t, second.Name)
	for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = traces(t, second.Name) {
		time.Sleep(20 * time.Millisecond) // a process that was killed ends in its own time
	}
	if len(left) > 0 {
		t.Errorf("left of a host that was killed: %q", left)
	}
}

func TestHostThatPowersItselfOff(t *testing.T) {
	h := boot(t, Options{})
	h.Run(t.Context(), "systemctl", "poweroff") // is killed on the way
	deadline := time.Now().Add(10 * time.Second)
	for h.pid() != 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if r, err := h.Run(t.Context(), "true"); err == nil {
		t.Errorf("a program ran in a host that is down: %+v", r)
	}
	if err := h.PowerOff(t.Context()); err == nil {
		t.Error("a host that was down was powered off")
	}
	if left := traces(t, h.Name); len(left) > 0 {
		t.Errorf("left of the host: %q", left)
	}
}

func TestRebootAndCrashKeepFiles(t *testing.T) {
	h := boot(t, Options{})
	if err := h.Put("/var/lib/mxcert/state", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Put("/run/gone", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("reboot took %v", since(began))
	if got, err := h.Get("/var/lib/mxcert/state"); err != nil || string(got) != "kept" {
		t.Errorf("after the reboot the state is %q, %v", got, err)
	}
	if _, err := h.Stat("/run/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file in /run outlived the reboot: %v", err)
	}
	began = time.Now()
	if err := h.Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("crash and boot took %v", since(began))
	if got, err := h.Get("/var/lib/mxcert/state"); err != nil || string(got) != "kept" {
		t.Errorf("after the crash the state is %q, %v", got, err)
	}
	boots, err := h.Must(t.Context(), "journalctl", "--list-boots", "--no-pager", "-q")
	if err != nil || strings.Count(boots, "\n") != 3 {
		t.Errorf("the journal knows these boots, %v:\n%s", err, boots)
	}
	if _, err := h.ServedBy(t.Context(), "127.0.0.1:25", "", ""); err != nil {
		t.Error(err)
	}
}

func TestFilesAndPrograms(t *testing.T) {
	h := boot(t, Options{})
	if err := h.PutFile(File{Path: "/etc/exim4/new/key.pem", Content: []byte("secret"), Mode: 0o640, Owner: "root:Debian-exim"}); err != nil {
		t.Fatal(err)
	}
	fi, err := h.Stat("/etc/exim4/new/key.pem")
	if err != nil || fi.Mode() != 0o640 || fi.Owner != "root:Debian-exim" {
		t.Errorf("put and found: %v %s, %v", fi.Mode(), fi.Owner, err)
	}
	if out, err := h.Must(t.Context(), "stat", "-c", "%a %U:%G %i", "/etc/exim4/new/key.pem"); err != nil || out != fmt.Sprintf("640 root:Debian-exim %d\n", fi.Inode) {
		t.Errorf("the host itself finds %q, %v", out, err)
	}
	if err := h.PutFile(File{Path: "/etc/x", Owner: "nobody:none-such"}); err == nil {
		t.Error("a file was given to a group that the host does not have")
	}
	r, err := h.RunInput(t.Context(), "in", "sh", "-c", "cat; echo err >&2; exit 7")
	if err != nil || r != (Result{Stdout: "in", Stderr: "err\n", Code: 7}) {
		t.Errorf("result %+v, %v", r, err)
	}
	if _, err := h.Must(t.Context(), "sh", "-c", "echo why >&2; exit 7"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("the error of a failed program lacks what it said: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = h.Run(ctx, "sh", "-c", "sleep 4711 & sleep 4711")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
		t.Errorf("after %v: %v", since(began), err)
	}
	if r, err := h.Run(t.Context(), "pgrep", "-f", "sleep 4711"); err != nil || r.Code != 1 {
		t.Errorf("what the program had started still runs: %q, %v", r.Stdout, err)
	}
}

func TestLoadCountsWhatFails(t *testing.T) {
	h := boot(t, Options{})
	addresses := []string{"127.0.0.1:25", "[::1]:25"}
	load := func(d time.Duration) Counts {
		l := h.StartLoad(t.Context(), 4, 0, addresses...)
		time.Sleep(d)
		return l.Stop()
	}
	c := load(time.Second)
	t.Logf("undisturbed: %v", c)
	if c.Served == 0 || c.Served != c.Attempts || len(c.Serials) != 1 {
		t.Errorf("undisturbed: %v", c)
	}

	l := h.StartLoad(t.Context(), 4, 0, addresses...)
	for range 5 {
		if _, err := h.Must(t.Context(), "systemctl", "reload", "exim4.service"); err != nil {
			t.Fatal(err)
		}
	}
	c = l.Stop()
	t.Logf("five reloads: %v", c)
	if c.Refused == 0 || c.Refused+c.Reset+c.Served != c.Attempts {
		t.Errorf("Exim's listeners close at a reload, and nothing else happens: %v", c)
	}
	if n, err := h.ReloadCount(t.Context(), "exim4.service"); err != nil || n != 5 {
		t.Errorf("%d reloads counted, %v", n, err)
	}

	if err := h.PutFile(File{Path: "/etc/exim4/exim.key", Content: []byte("no key\n"), Mode: 0o640, Owner: "root:Debian-exim"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Must(t.Context(), "systemctl", "reload", "exim4.service"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	c = load(300 * time.Millisecond)
	t.Logf("broken key: %v", c)
	if c.Unavailable == 0 || c.Served > 0 {
		t.Errorf("with a broken key: %v", c)
	}
	if s, err := h.ServedBy(t.Context(), "127.0.0.1:25", "", ""); err == nil {
		t.Errorf("openssl with a broken key: verify code %d, %d certificates", s.VerifyCode, len(s.Chain))
	}

	if _, err := h.Must(t.Context(), "systemctl", "stop", "exim4.service"); err != nil {
		t.Fatal(err)
	}
	untilClosed(t, h, addresses...)
	if c = load(100 * time.Millisecond); c.Refused == 0 || c.Refused != c.Attempts {
		t.Errorf("with Exim stopped: %v", c)
	}
}

// untilClosed waits until every address refuses connections: a process of Exim that has just been started for a connection still holds the
// listening socket when systemd reports that the daemon has stopped.
func untilClosed(t *testing.T, h *Host, addresses ...string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for _, address := range addresses {
		for {
			c, err := h.Dial(t.Context(), "tcp", address)
			if errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			if err == nil {
				_ = c.Close()
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is still open: %v", address, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func TestBrokenHostTellsWhy(t *testing.T) {
	Require(t)
	h, err := Boot(t.Context(), Options{Files: []File{{Path: "/etc/exim4/exim4.conf.localmacros", Content: []byte("no such option\n"), Mode: 0o644}}})
	if err == nil {
		h.Kill()
		t.Fatal("a host whose Exim cannot start counts as ready")
	}
	if !strings.Contains(err.Error(), "exim4.service is failed") || !strings.Contains(err.Error(), `main option "no" unknown`) {
		t.Errorf("the error does not tell what failed:\n%v", err)
	}
}

func TestJournalAndUnit(t *testing.T) {
	h := boot(t, Options{})
	say := func(text string) {
		if _, err := h.Must(t.Context(), "systemd-run", "--wait", "--unit", "speaker", "echo", text); err != nil {
			t.Fatal(err)
		}
	}
	say("too early")
	then := time.Now()
	say("in time")
	text, err := h.Journal(t.Context(), "speaker", then)
	if err != nil || !strings.Contains(text, "in time") || strings.Contains(text, "too early") {
		t.Errorf("journal since %v: %v\n%s", then, err, text)
	}
	if text, err = h.Journal(t.Context(), "", time.Time{}); err != nil || !strings.Contains(text, "too early") || !strings.Contains(text, "named") {
		t.Errorf("journal of all units since boot: %v\n%s", err, text)
	}
	unit, err := h.Unit(t.Context(), "exim4.service", "ActiveState", "CanReload")
	if err != nil || unit["ActiveState"] != "active" || unit["CanReload"] != "yes" {
		t.Errorf("exim4.service: %v, %v", unit, err)
	}
	if n, err := h.ReloadCount(t.Context(), "named.service"); err != nil || n != 0 {
		t.Errorf("named was reloaded %d times, %v", n, err)
	}
}

// helperVariable makes TestMain boot a host and wait for its death.
const helperVariable = "MXCERT_E2E_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) == "" {
		os.Exit(m.Run())
	}
	h, err := Boot(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(h.Name)
	time.Sleep(time.Minute)
}

func TestHostDiesWithItsTest(t *testing.T) {
	Require(t)
	for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), helperVariable+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		name, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(name, "mx-") {
			t.Fatalf("the helper says %q, %v", name, err)
		}
		name = strings.TrimSpace(name)
		if len(traces(t, name)) < 3 {
			t.Errorf("a host that lives has few traces: %q", traces(t, name))
		}
		cmd.Process.Signal(signal)
		cmd.Wait()
		run := filepath.Join(os.TempDir(), "mxcert-e2e/run-"+name)
		deadline := time.Now().Add(10 * time.Second)
		for left := traces(t, name); len(left) != 1 || left[0] != run; left = traces(t, name) {
			if time.Now().After(deadline) {
				t.Fatalf("after %v of the test more than its directory is left of the host: %q", signal, left)
			}
			time.Sleep(20 * time.Millisecond)
		}
		// The directory goes when another host is booted, once it is a minute old.
		if err := os.Chtimes(run, time.Now(), time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		boot(t, Options{}).Kill()
		if left := traces(t, name); len(left) > 0 {
			t.Errorf("left after the sweep: %q", left)
		}
	}
}

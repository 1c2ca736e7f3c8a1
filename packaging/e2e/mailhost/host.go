// Package mailhost boots a Debian 12 or 13 mail host in a container and drives it from a test: real systemd, D-Bus
// and polkit, a mail server, BIND with a signed zone that takes updates under TSIG, and Pebble as the
// certification authority. The container has a loopback interface and nothing else.
//
// The host is mx.example.org, also host7.example.org. Exim (Debian's unsplit configuration, TLS from
// /etc/exim4/exim.crt and exim.key, which begin as a self-signed pair) listens on port 25 of 127.0.0.1 and ::1. With Options.Server
// "postfix" there is no Exim, but Postfix (25, 465, 587; /etc/postfix/tls/mx.crt and mx.key) and Dovecot (143, 993;
// /etc/dovecot/tls/mx.crt and mx.key; every user has the password "secret"). BIND listens there
// too; it is authoritative for example.org (signed) and example.com (not signed), lets the TSIG key "mxcert."
// change their TXT and TLSA records and `nsupdate -l` all of them, and answers NXDOMAIN to everything else. Two units
// are off until a story starts them: pebble.service (StartPebble) and resolver.service, a validating
// resolver on 127.0.0.53:53 whose answers carry AD.
//
// It needs root, and the packages that packaging/e2e/roottree.sh installs. Not supported: other
// mail servers, more than one host in a network, machines that are not Debian.
package mailhost

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed keeper.sh
var keeperScript string

// Options say how a host differs from the ordinary one.
type Options struct {
	// Server is the mail server: Exim (the zero value), or Postfix, which brings Dovecot.
	Server Server
	// Release is the release of Debian; the zero value is that of the variable MXCERT_E2E_RELEASE, or Debian 12.
	Release Release
	// Judges adds other name servers and resolvers (Knot, PowerDNS, Unbound, dnsmasq) to a host with Postfix, as Debian installs them.
	Judges bool
	// Files are put into the host's root before it boots, over those of the world.
	Files []File
	// Logf, if set, is told what Boot did and how long each part took.
	Logf func(format string, args ...any)
}

// Server is what a host serves mail with.
type Server string

// The servers. As Debian packages they exclude each other.
const (
	Exim    Server = "exim"
	Postfix Server = "postfix"
)

// Release is a release of Debian, by its code name.
type Release string

// The releases.
const (
	Debian12 Release = "bookworm"
	Debian13 Release = "trixie"
)

// DefaultRelease is the release of hosts that do not name one.
func DefaultRelease() Release { return cmp.Or(Release(os.Getenv("MXCERT_E2E_RELEASE")), Debian12) }

// units are the units of the servers, and ports the last of each to be opened.
func (s Server) units(on Release) (units, ports []string) {
	switch {
	case s == Postfix && on == Debian12:
		return []string{"postfix@-.service", "dovecot.service"}, []string{"127.0.0.1:25", "127.0.0.1:993"}
	case s == Postfix:
		return []string{"postfix.service", "dovecot.service"}, []string{"127.0.0.1:25", "127.0.0.1:993"}
	}
	return []string{"exim4.service"}, []string{"127.0.0.1:25"}
}

// A Host is one booted container. Its methods may be called from several goroutines at once.
type Host struct {
	// Name is the machine's name, unique on this machine.
	Name string
	// TSIGSecret is the base64 secret of the TSIG key "mxcert." (hmac-sha256); also in /etc/bind/mxcert.key.
	TSIGSecret string
	// BootTime is how long the last boot took, from the start of the container to a mail server that answers.
	BootTime time.Duration

	server  Server
	release Release

	logf   func(format string, args ...any)
	run    string // directory of this host on the machine: console, mount point
	keeper *exec.Cmd
	stdin  io.Closer   // of the keeper; closing it kills the host
	events chan string // the keeper's lines; closed at its end

	mu      sync.Mutex
	systemd *os.Process // number 1 of the host; nil before its first boot
	off     bool
}

// bootTimeout bounds one boot; the ordinary one takes about two seconds.
const bootTimeout = 60 * time.Second

// Boot makes the root tree if there is none yet (about a minute, see roottree.sh), mounts a fresh overlay over it,
// boots it and returns when systemd has started everything and the mail server answers. The caller ends it by PowerOff
// or Kill; should the test's process die first, however it dies, the host is killed with it.
func Boot(ctx context.Context, o Options) (*Host, error) {
	began := time.Now()
	if o.Server == "" {
		o.Server = Exim
	}
	o.Release = cmp.Or(o.Release, DefaultRelease())
	name := string(o.Server)
	if o.Judges {
		name = "judges"
	}
	tree, err := RootTree(ctx, name, o.Release)
	if err != nil {
		return nil, err
	}
	h := &Host{Name: "mx-" + randomHex(4), server: o.Server, release: o.Release, logf: o.Logf, events: make(chan string, 8)}
	if h.logf == nil {
		h.logf = func(string, ...any) {}
	}
	h.logf("root tree %s: %v", tree, since(began))
	if err := h.start(ctx, tree, o.Files); err != nil {
		err = fmt.Errorf("boot of %s: %w\n%s", h.Name, err, h.Diagnose())
		h.Kill()
		return nil, err
	}
	h.logf("%s: from nothing to ready in %v", h.Name, since(began))
	return h, nil
}

func (h *Host) start(ctx context.Context, tree string, files []File) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	began := time.Now()
	h.run = filepath.Join(filepath.Dir(tree), "run-"+h.Name)
	if err := os.Mkdir(h.run, 0o755); err != nil {
		return err
	}
	stdin, err := h.startKeeper(tree)
	if err != nil {
		return err
	}
	if _, err := h.event(ctx, "mounted"); err != nil {
		return err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root%s/mnt/root", h.keeper.Process.Pid, h.run))
	if err != nil {
		return err
	}
	defer root.Close()
	world, err := h.world()
	if err != nil {
		return err
	}
	for _, f := range append(world, files...) {
		if err := put(root, f); err != nil {
			return err
		}
	}
	h.logf("%s: overlay and world: %v", h.Name, since(began))
	if _, err := io.WriteString(stdin, "boot\n"); err != nil {
		return err
	}
	return h.ready(ctx)
}

// startKeeper starts the keeper in a mount namespace and a process group of its own, where an interrupt from the
// keyboard does not reach it.
func (h *Host) startKeeper(tree string) (io.Writer, error) {
	h.keeper = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", keeperScript, "keeper", tree, h.run, h.Name)
	h.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	console, err := os.OpenFile(h.console(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	h.keeper.Stderr = console
	stdin, err := h.keeper.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := h.keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.keeper.Start(); err != nil {
		return nil, err
	}
	h.stdin = stdin
	go func() {
		defer close(h.events)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			h.events <- lines.Text()
		}
	}()
	return stdin, nil
}

// console is the file that takes what systemd prints, and what the keeper complains of.
func (h *Host) console() string { return filepath.Join(h.run, "console.log") }

// event waits for the keeper's next line, which must be word and perhaps a value.
func (h *Host) event(ctx context.Context, word string) (value string, err error) {
	select {
	case line, ok := <-h.events:
		got, value, _ := strings.Cut(line, " ")
		switch {
		case !ok:
			return "", fmt.Errorf("the keeper ended before %q", word)
		case got != word:
			return "", fmt.Errorf("the keeper said %q, wanted %q", line, word)
		}
		return value, nil
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for %q of the keeper: %w", word, ctx.Err())
	}
}

// ready waits for a boot that the keeper is about to begin.
func (h *Host) ready(ctx context.Context) error {
	value, err := h.event(ctx, "boot")
	if err != nil {
		return err
	}
	began := time.Now()
	nspawn, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("the keeper's boot: %w", err)
	}
	pid, err := awaitInit(ctx, nspawn)
	if err != nil {
		return err
	}
	if err := h.setSystemd(pid); err != nil {
		return err
	}
	if err := h.awaitSystemd(ctx); err != nil {
		return err
	}
	h.logf("%s: systemd up: %v", h.Name, since(began))
	units, ports := h.server.units(h.release)
	for _, unit := range units {
		if r, err := h.Run(ctx, "systemctl", "is-active", unit); err != nil || r.Code != 0 {
			return errors.Join(err, fmt.Errorf("%s is %s", unit, r.Stdout))
		}
	}
	for _, port := range ports {
		if err := h.AwaitPort(ctx, port); err != nil {
			return err
		}
	}
	h.BootTime = time.Since(began)
	h.logf("%s: booted, %s answers: %v", h.Name, h.server, since(began))
	return nil
}

// awaitSystemd waits until systemd has finished its start-up jobs. "degraded" will do: a story may boot a host
// on which something is broken.
func (h *Host) awaitSystemd(ctx context.Context) error {
	for {
		// Until systemd listens on its socket, systemctl fails at once.
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/systemd/private", h.pid())); err == nil {
			r, err := h.Run(ctx, "systemctl", "is-system-running", "--wait")
			if err != nil {
				return err
			}
			if state := strings.TrimSpace(r.Stdout); state == "running" || state == "degraded" {
				return nil
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("systemd has not come up: %w", err)
		}
	}
}

// awaitInit finds the container's systemd: the child of systemd-nspawn that is number 1 in its PID namespace.
func awaitInit(ctx context.Context, nspawn int) (int, error) {
	for {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
		if err != nil {
			return 0, fmt.Errorf("systemd-nspawn has ended: %w", err)
		}
		for _, pid := range strings.Fields(string(children)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			if numberOne.Match(status) {
				return strconv.Atoi(pid)
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, fmt.Errorf("systemd-nspawn has started no systemd: %w", err)
		}
	}
}

// numberOne matches the status of a process that is number 1 in a PID namespace below this one.
var numberOne = regexp.MustCompile(`(?m)^NSpid:\s+\d+\s+1$`)

// pid is the number that this machine gives the host's systemd, or 0 when the host is down. The process is held by a
// descriptor: its number may be another process's by now, and what runs there would run on this machine.
func (h *Host) pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off || h.systemd == nil || h.systemd.Signal(syscall.Signal(0)) != nil {
		return 0
	}
	return h.systemd.Pid
}

func (h *Host) setSystemd(pid int) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.systemd, err = os.FindProcess(pid)
	return err
}

// signal sends a signal to the host's systemd.
func (h *Host) signal(s syscall.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off || h.systemd == nil {
		return os.ErrProcessDone
	}
	return h.systemd.Signal(s)
}

// Signals by which systemd in a container is told what to do, systemd(1): SIGRTMIN+4 and SIGRTMIN+5.
// The C library keeps the two lowest real-time signals for itself, so its SIGRTMIN is 34.
const (
	sigPowerOff = syscall.Signal(34 + 4)
	sigReboot   = syscall.Signal(34 + 5)
)

// Reboot reboots the host in the orderly way and returns when it is ready again. Its files stay.
func (h *Host) Reboot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*bootTimeout)
	defer cancel()
	if err := h.signal(sigReboot); err != nil {
		return fmt.Errorf("reboot of %s: %w", h.Name, err)
	}
	if err := h.ready(ctx); err != nil {
		return fmt.Errorf("reboot of %s: %w\n%s", h.Name, err, h.Diagnose())
	}
	return nil
}

// Crash kills every process of the host at once, as a power cut would, boots it again and returns when it is ready. Its
// files stay, also those that were not synced.
func (h *Host) Crash(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	err := os.WriteFile(filepath.Join(h.run, "again"), nil, 0o600)
	if err == nil {
		err = h.signal(syscall.SIGKILL)
	}
	if err == nil {
		err = h.ready(ctx)
	}
	if err != nil {
		return fmt.Errorf("crash of %s: %w\n%s", h.Name, err, h.Diagnose())
	}
	return nil
}

// PowerOff shuts the host down in the orderly way and removes all that was made for it. A host that is not down when
// the time is up, or after 30 s, is killed; that is the error it gives.
func (h *Host) PowerOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	defer h.Kill()
	if err := h.signal(sigPowerOff); err != nil {
		return fmt.Errorf("power off %s: %w", h.Name, err)
	}
	if _, err := h.event(ctx, "off"); err != nil {
		return fmt.Errorf("power off %s: %w\n%s", h.Name, err, h.Diagnose())
	}
	return nil
}

// Kill ends the host at once, as a power cut would, and removes all that was made for it. It may be called twice.
func (h *Host) Kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off {
		return
	}
	h.off = true
	if h.keeper != nil && h.keeper.Process != nil {
		h.stdin.Close()
		defer time.AfterFunc(20*time.Second, func() { h.keeper.Process.Kill() }).Stop()
		for range h.events { // the keeper's output must be read to its end before Wait
		}
		if err := h.keeper.Wait(); err != nil {
			h.logf("%s: keeper: %v", h.Name, err)
		}
	}
	if err := os.RemoveAll(h.run); err != nil {
		h.logf("%s: %v", h.Name, err)
	}
}

// Diagnose gathers what a failure message should show: what systemd calls failed, the ends of the journal, of Exim's
// logs and of the console. It never fails, and takes at most ten seconds.
func (h *Host) Diagnose() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var b strings.Builder
	section := func(title, text string) {
		if text = strings.TrimSpace(text); text != "" {
			fmt.Fprintf(&b, "--- %s %s:\n%s\n", h.Name, title, text)
		}
	}
	if h.pid() != 0 {
		r, _ := h.Run(ctx, "sh", "-c", "systemctl --failed --no-legend; systemctl list-jobs --no-legend")
		section("failed units and waiting jobs", r.Stdout)
		r, _ = h.Run(ctx, "journalctl", "--no-pager", "-o", "short-precise", "-n", "60")
		section("journal", r.Stdout+r.Stderr)
		r, _ = h.Run(ctx, "sh", "-c", "tail -n 20 /var/log/exim4/mainlog /var/log/exim4/paniclog")
		section("Exim", r.Stdout)
	}
	console, _ := os.ReadFile(h.console())
	section("console", string(console[max(0, len(console)-4096):]))
	return b.String()
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// PID is the host's systemd as the machine outside numbers it, for nsenter(1).
func (h *Host) PID() int { return h.pid() }

package world

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

//go:embed keeper.sh
var keeperScript string

// A Host is a network namespace with root trees of Debian, in which programs run as root, each in a chroot. Nothing runs in it that the test
// does not start: no systemd, no mail server. Its methods may be called from several goroutines at once.
type Host struct {
	// Name is the host's name in its world: "sender" or "receiver".
	Name string
	// Root is the path of the root tree as the test sees it, to read and write files of the host.
	Root string

	tree   Tree
	keeper *keeper
}

// Tree is the name of a root tree.
type Tree string

// The trees of a host. As Debian packages, Exim and Postfix exclude each other.
const (
	Postfix Tree = "judges" // Postfix, Dovecot, BIND, Knot, Unbound, unbound-host, delv, dig, dnsmasq, gnutls-cli, danetool, openssl, swaks, Python
	Exim    Tree = "exim"   // Exim, BIND, openssl, Python
	Etcd    Tree = "etcd"   // etcd, etcdctl, age-keygen, and what Exim's has
)

// trees are those of a sender and of a receiver.
var trees = []Tree{Postfix, Exim}

// In returns the same host with another of its root trees. Network and processes are those of the host.
func (h *Host) In(t Tree) *Host {
	other := *h
	other.tree, other.Root = t, filepath.Join(h.keeper.root(), string(t))
	return &other
}

// PID is the first process of the host as the test's machine numbers it, for nsenter(1).
func (h *Host) PID() int { return h.keeper.cmd.Process.Pid }

// Write makes or replaces a file of the host, owned by root. Missing directories are made with mode 0755.
func (h *Host) Write(path, content string, mode fs.FileMode) error {
	return mailhost.PutBelow(h.Root, mailhost.File{Path: path, Content: []byte(content), Mode: mode})
}

// WriteFile is Write for a file with an owner.
func (h *Host) WriteFile(f mailhost.File) error { return mailhost.PutBelow(h.Root, f) }

// Read reads a file of the host.
func (h *Host) Read(path string) (string, error) {
	root, err := os.OpenRoot(h.Root)
	if err != nil {
		return "", err
	}
	defer root.Close()
	content, err := root.ReadFile(strings.TrimPrefix(filepath.Clean(path), "/"))
	return string(content), err
}

// AddAddress gives the host an address of its link, with a prefix length: "198.51.100.25/24", "2001:db8::25/64". The other host reaches every
// address without a route of its own.
func (h *Host) AddAddress(prefix string) error {
	arguments := []string{"address", "add", prefix, "dev", link}
	if strings.Contains(prefix, ":") {
		arguments = append(arguments, "nodad")
	}
	return h.network(arguments...)
}

// RemoveAddress takes an address from the host.
func (h *Host) RemoveAddress(prefix string) error {
	return h.network("address", "del", prefix, "dev", link)
}

// network runs ip(8) of the machine in the host's network namespace.
func (h *Host) network(arguments ...string) error {
	out, err := exec.Command("nsenter", append([]string{"--target", fmt.Sprint(h.PID()), "--net", "--", "ip"}, arguments...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: ip %s: %w: %s", h.Name, strings.Join(arguments, " "), err, out)
	}
	return nil
}

// keeper is number 1 of a host.
type keeper struct {
	cmd    *exec.Cmd
	stdin  io.Closer // closing it ends the host
	run    string
	stderr strings.Builder

	mu      sync.Mutex
	started []*Process
}

// root is the directory of the host's root trees as the test sees it.
func (k *keeper) root() string { return fmt.Sprintf("/proc/%d/root%s", k.cmd.Process.Pid, k.run) }

// startKeeper makes the namespaces and mounts the trees.
func startKeeper(ctx context.Context, name, run string, paths map[Tree]string) (*keeper, error) {
	arguments := []string{"-c", keeperScript, "keeper", run}
	for t, path := range paths {
		arguments = append(arguments, string(t)+"="+path)
	}
	k := &keeper{cmd: exec.Command("sh", arguments...), run: run}
	// An interrupt from the keyboard does not reach a process group of its own.
	k.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	k.cmd.Stderr = &k.stderr
	stdin, err := k.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	k.stdin = stdin
	stdout, err := k.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := k.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		ready <- line
	}()
	select {
	case line := <-ready:
		if line == "ready\n" {
			return k, nil
		}
		err = errors.New("it ended")
	case <-ctx.Done():
		err = ctx.Err()
	}
	k.end()
	return nil, fmt.Errorf("the keeper of %s: %w\n%s", name, err, k.stderr.String())
}

// end ends every process of the host, and returns when the kernel has done so. What has started a process from outside must be able to reap it, or
// the kernel waits: nsenter stops itself if its program is stopped, and then does not hear that this goes on.
func (k *keeper) end() {
	k.mu.Lock()
	for _, p := range k.started {
		if !p.Ended() {
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	k.mu.Unlock()
	k.stdin.Close()
	defer time.AfterFunc(10*time.Second, func() { k.cmd.Process.Kill() }).Stop()
	_ = k.cmd.Wait() // its end is all that is wanted
}

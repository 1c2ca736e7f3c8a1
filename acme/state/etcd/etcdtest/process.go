package etcdtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// asMember is the variable that makes a test program a member.
const asMember = "MXCERT_TEST_ETCD_MEMBER"

// Main is called first by TestMain of tests that use [StartProcesses]: if this process is to be a member, it does not return.
func Main() {
	text := os.Getenv(asMember)
	if text == "" {
		return
	}
	if err := serve(text); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is a member until its standard input ends.
func serve(text string) error {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	e, err := embed.StartEtcd(p.config())
	if err != nil {
		return err
	}
	clients, peers := embedded{e}.addresses()
	fmt.Println(clients, peers)
	if err := (embedded{e}).ready(); err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	e.Close()
	return nil
}

// process is a member in a process of its own.
type process struct {
	cmd            *exec.Cmd
	in             io.Closer
	out            *bufio.Scanner
	clients, peers string
}

func spawn(p plan) (*process, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0]) //nolint:gosec // this test itself
	cmd.Env = append(os.Environ(), asMember+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &process{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	line, err := m.line()
	if err != nil {
		return nil, errors.Join(err, m.end(syscall.SIGKILL))
	}
	var found bool
	if m.clients, m.peers, found = strings.Cut(line, " "); !found {
		return nil, errors.Join(errors.New(line), m.end(syscall.SIGKILL))
	}
	return m, nil
}

func (m *process) line() (string, error) {
	if !m.out.Scan() {
		return "", errors.Join(errors.New("the member says nothing"), m.out.Err())
	}
	return m.out.Text(), nil
}

func (m *process) addresses() (clients, peers string) { return m.clients, m.peers }

func (m *process) ready() error {
	line, err := m.line()
	if err == nil && line != "ready" {
		err = errors.New(line)
	}
	return err
}

func (m *process) stop() error {
	return errors.Join(m.cmd.Process.Signal(syscall.SIGCONT), m.in.Close(), m.cmd.Wait())
}

func (m *process) end(signal syscall.Signal) error {
	err := m.cmd.Process.Signal(signal)
	_ = m.cmd.Wait() // it was killed
	return err
}

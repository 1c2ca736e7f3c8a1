package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The real socket of the journal, in a mount namespace of its own: none is there; it is full and nobody reads it; then somebody reads again.
func TestSocket(t *testing.T) {
	t.Parallel()
	if os.Getenv("MXCERT_JOURNAL_SOCKET") == "here" {
		atTheSocket(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSocket$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "MXCERT_JOURNAL_SOCKET=here")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) && os.Getenv("MXCERT_TEST_REQUIRE") != "1" {
		t.Skipf("no mount namespace here: %v", err)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestSocket")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func atTheSocket(t *testing.T) {
	for _, mount := range []struct {
		source, target, kind string
		flags                uintptr
	}{{"none", "/", "", syscall.MS_REC | syscall.MS_PRIVATE}, {"run", "/run", "tmpfs", 0}} {
		if err := syscall.Mount(mount.source, mount.target, mount.kind, mount.flags, ""); err != nil {
			t.Fatalf("mount %s: %v", mount.target, err)
		}
	}
	out := &lines{}
	log := slog.New(newHandler(slog.NewTextHandler(out, nil), newNative().send, 50*time.Millisecond))
	said := func(what string, n int) {
		t.Helper()
		for i := range n {
			if !strings.Contains(out.String(), fmt.Sprintf("what=%s n=%d\n", what, i)) {
				t.Errorf("%s: record %d is nowhere", what, i)
			}
		}
	}
	const records = 50
	for i := range records {
		log.Info("x", "what", "missing", "n", i)
	}
	said("missing", records)

	if err := os.MkdirAll(filepath.Dir(socketFile), 0o755); err != nil { //nolint:gosec // as systemd makes it
		t.Fatal(err)
	}
	journald, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socketFile, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer journald.Close()
	fill(t)
	for i := range records {
		log.Info("x", "what", "full", "n", i)
	}
	said("full", records)
	for !sleeps(t) { // until -test.timeout: the entry that does not get through keeps no processor busy
		time.Sleep(10 * time.Millisecond)
	}

	// Somebody reads again. What others have sent comes first.
	entries := make(chan string, 10_000)
	go func() {
		text := make([]byte, 1<<20)
		for {
			n, err := journald.Read(text)
			if err != nil {
				return
			}
			entries <- string(text[:n])
		}
	}()
	for n := 0; ; n++ { // until -test.timeout
		log.Info("x", "what", "again", "n", n, "lines", "one\ntwo")
		select {
		case e := <-entries:
			if strings.Contains(e, "MXCERT_WHAT=again\n") {
				if !strings.Contains(e, "\nMXCERT_LINES\n\x07\x00\x00\x00\x00\x00\x00\x00one\ntwo\n") || !strings.Contains(e, "PRIORITY=6\n") {
					t.Errorf("the entry is %q", e)
				}
				return
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// sleeps reports whether a thread of this process sleeps in the kernel until a datagram can be sent.
func sleeps(t *testing.T) bool {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(tasks) == 0 {
		t.Fatal("no threads", err)
	}
	for _, task := range tasks {
		call, err1 := os.ReadFile(task + "/syscall")
		stat, err2 := os.ReadFile(task + "/stat")
		if err1 == nil && err2 == nil && strings.HasPrefix(string(call), strconv.Itoa(syscall.SYS_SENDTO)+" ") && bytes.Contains(stat, []byte(") S ")) {
			return true
		}
	}
	return false
}

// fill fills the socket as other programs do, until one that has sent nothing yet cannot send.
func fill(t *testing.T) {
	t.Helper()
	for sent := true; sent; {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		for sent = false; ; sent = true {
			err := syscall.Sendto(fd, []byte("MESSAGE=other\n"), 0, &syscall.SockaddrUnix{Name: socketFile})
			if errors.Is(err, syscall.EAGAIN) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

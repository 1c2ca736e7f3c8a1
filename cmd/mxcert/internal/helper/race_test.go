package helper

import (
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

	"golang.org/x/sys/unix"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert-lab/issuer"
)

// exchangeEnv makes the test binary a process that exchanges a directory with other things until its standard input ends.
const exchangeEnv = "MXCERT_TEST_EXCHANGE"

func TestMain(m *testing.M) {
	if way := os.Getenv(exchangeEnv); way != "" {
		if err := exchangeLoop(way); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// exchangeLoop puts a link, a pipe, and a directory of its own in the place of way/tls, each for a moment.
func exchangeLoop(way string) error {
	ended := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(ended)
	}()
	other := func(name string) string { return filepath.Join(way, name) }
	if err := errors.Join(os.Symlink("../precious", other("link")), syscall.Mkfifo(other("pipe"), 0o600), os.Mkdir(other("own"), 0o755)); err != nil {
		return err
	}
	for {
		for _, name := range []string{"link", "pipe", "own"} {
			for _, wait := range []time.Duration{200 * time.Microsecond, 4 * time.Millisecond} { // there and back
				if err := unix.Renameat2(unix.AT_FDCWD, other(name), unix.AT_FDCWD, other("tls"), unix.RENAME_EXCHANGE); err != nil {
					return err
				}
				select {
				case <-ended:
					return nil
				case <-time.After(wait):
				}
			}
		}
	}
}

// TestInstallHelperWhileAnotherUserExchanges the directory of the files: the helper of root answers each order in time, and nothing changes
// where the user's link leads.
func TestInstallHelperWhileAnotherUserExchanges(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("MXCERT_TEST_REQUIRE=1, and this is not root")
		}
		t.Skip("only root can be led astray by another user")
	}
	const stranger = 54320 // not the service: the helper leaves to the service what that can write
	h, ca := newHost(t), issuer.New(t)
	for _, dir := range []string{"way/tls", "precious/.mxcert-mx"} {
		h.check(os.MkdirAll(h.path(dir), 0o755))
	}
	for _, name := range []string{"mx.crt", "mx.key", ".mxcert-mx/mx.key", ".mxcert-mx.touch"} {
		h.check(os.WriteFile(h.path("precious/"+name), []byte("precious"), 0o600))
	}
	h.check(os.Chown(h.path("way"), stranger, stranger))
	h.check(os.Chmod(filepath.Dir(h.dir), 0o755))
	h.write(strings.ReplaceAll(h.text(), h.dir+"/tls/", h.dir+"/way/tls/"))
	before := times(t, h.path("precious"))
	other := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^$")
	other.Env = append(os.Environ(), exchangeEnv+"="+h.path("way"))
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	stdin, err := other.StdinPipe()
	h.check(err)
	h.check(other.Start())
	bundles := []*bundle.Bundle{ca.Issue(t, life, "mx.example.org"), ca.Issue(t, life, "mx.example.org")}
	deployed, refused := 0, 0
	for i := range 200 {
		err := h.deployOnce(bundles[i%2])
		switch {
		case err == nil:
			deployed++
		case strings.Contains(err.Error(), "without an answer"):
			t.Fatal(err)
		default:
			refused++
		}
	}
	h.check(errors.Join(stdin.Close(), other.Wait()))
	if after := times(t, h.path("precious")); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if t.Logf("%d deployed, %d refused", deployed, refused); deployed < 5 || refused < 5 {
		t.Error("this test sees nothing")
	}
}

// deployOnce orders one deployment, in at most 25 seconds for each step.
func (h *host) deployOnce(b *bundle.Bundle) error {
	c, err := h.client.dial(h.t.Context(), Install)
	h.check(err)
	plan := &remotePlan{ctx: h.t.Context(), name: "mx", conn: c, say: func(string, string) {}}
	defer plan.Close()
	for _, step := range []func() error{
		func() error {
			plan.answer, err = c.plan(h.t.Context(), wanted.Certificate{Name: "mx"}, []*bundle.Bundle{b})
			return err
		},
		func() error { return plan.Apply(nil) }, plan.Touch, plan.Revert,
	} {
		timer := time.AfterFunc(25*time.Second, func() { _ = c.Close() }) // then there is no answer
		err := step()
		timer.Stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// times describes a tree with everything that root could change by mistake.
func times(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&text, "%s: mode %o, owner %d:%d, size %d, changed at %d.%09d\n", path, s.Mode, s.Uid, s.Gid, s.Size, s.Ctim.Sec, s.Ctim.Nsec)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

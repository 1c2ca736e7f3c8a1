package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// dialogue is a person at a pseudo-terminal (pty(7)).
type dialogue struct {
	t       *testing.T
	control *os.File
	tty     *os.File
	mu      sync.Mutex
	text    strings.Builder
}

func newDialogue(t *testing.T) *dialogue {
	t.Helper()
	d := &dialogue{t: t}
	var err error
	if d.control, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.control.Close() })
	if err := unix.IoctlSetPointerInt(int(d.control.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(d.control.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if d.tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := d.control.Read(buffer)
			if err != nil {
				return
			}
			d.mu.Lock()
			d.text.Write(buffer[:n])
			d.mu.Unlock()
		}
	}()
	before := os.Stdin
	os.Stdin = d.tty
	t.Cleanup(func() { os.Stdin = before; _ = d.tty.Close() })
	return d
}

func (d *dialogue) seen() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// answer waits for a question and types a line.
func (d *dialogue) answer(question, line string) {
	d.t.Helper()
	start := len(d.seen())
	for deadline := time.Now().Add(time.Minute); !strings.Contains(d.seen(), question); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("the question %q does not come:\n%s", question, d.seen()[start:])
		}
	}
	d.mu.Lock()
	text := d.text.String()
	_, rest, _ := strings.Cut(text, question)
	d.text.Reset() // what was asked before must not count again
	d.text.WriteString(rest)
	d.mu.Unlock()
	if _, err := io.WriteString(d.control, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

// TestInitAtATerminal: wrong answers are refused at once, the secret is not seen, the credentials are tried in DNS before anything is written,
// and all that was written is listed.
func TestInitAtATerminal(t *testing.T) {
	l := lab.New(t, lab.Options{})
	d := newDialogue(t)
	config := filepath.Join(t.TempDir(), "etc", "mxcert.yaml")
	code := make(chan int)
	var all strings.Builder
	go func() {
		code <- Run(context.Background(), testRelease, []string{"-c", config, "init", "--doctor=false", "--mta", "files", "--ca-file", l.Path("ca.pem"), "--resolver", l.Primary.Address()}, io.MultiWriter(&all, d.tty), d.tty)
	}()
	for _, step := range [][2]string{
		{"names in the certificate", "?"}, {"names in the certificate", "mx.example.org host7.example.org"},
		{"ACME directory", l.CA.DirectoryURL()}, {"mail address", "nobody"}, {"mail address", "me@example.net"},
		{"have you read the terms of service of", "maybe"}, {"do you agree", "yes"},
		{"DNS provider", ""}, {"which credentials", ""}, {"DNSUPDATE_TSIG_KEY", "mxcert."}, {"DNSUPDATE_TSIG_SECRET", l.Secret()},
	} {
		d.answer(step[0], step[1])
	}
	d.answer("DNSUPDATE_NAMESERVER", l.Primary.Address())
	d.answer("try it now", "")
	d.answer("the DNS provider works", "")
	d.answer("path of its key", "")
	if got := <-code; got != 0 {
		t.Fatalf("exit code %d\n%s", got, d.seen())
	}
	if strings.Contains(d.seen(), l.Secret()) {
		t.Error("the secret is on the screen")
	}
	secret := filepath.Join(filepath.Dir(config), "credentials", "dnsupdate_tsig_secret")
	if got := all.String(); !strings.Contains(got, "written: "+config+"\n") || !strings.Contains(got, "written: "+secret+"\n") || strings.Count(got, "next: ") != 1 || !strings.HasSuffix(got, "next: mxcert renew\n") {
		t.Errorf("printed:\n%s", got)
	}
	if text, err := os.ReadFile(secret); err != nil || strings.TrimSpace(string(text)) != l.Secret() {
		t.Errorf("the secret: %v", err)
	}
}

// TestInitInterrupted: Ctrl-C while a secret is asked for ends init, writes nothing, and the terminal shows again what is typed.
func TestInitInterrupted(t *testing.T) {
	d := newDialogue(t)
	config := filepath.Join(t.TempDir(), "etc", "mxcert.yaml")
	ctx, interrupt := context.WithCancel(t.Context())
	code := make(chan int)
	go func() {
		code <- Run(ctx, testRelease, []string{"-c", config, "init", "--doctor=false", "--agree-tos", "--email", "me@example.net", "--directory", "https://127.0.0.1:1/dir", "--domain", "mx.example.org", "--mta", "none",
			"--dns-provider", "desec", "--resolver", "127.0.0.1:9"}, io.Discard, d.tty)
	}()
	d.answer("names in the certificate", "")
	d.answer("DESEC_TOKEN", "") // an answer is needed, so that it is asked again
	for deadline := time.Now().Add(time.Minute); !strings.Contains(d.seen(), "DESEC_TOKEN"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not asked again: %s", d.seen())
		}
	}
	time.Sleep(50 * time.Millisecond)
	interrupt()
	if got := <-code; got == int(report.CodeOK) {
		t.Errorf("exit code %d", got)
	}
	if settings, err := unix.IoctlGetTermios(int(d.tty.Fd()), unix.TCGETS); err != nil || settings.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal does not echo: %v", err)
	}
	if _, err := os.Lstat(config); err == nil {
		t.Error("a configuration was written")
	}
}

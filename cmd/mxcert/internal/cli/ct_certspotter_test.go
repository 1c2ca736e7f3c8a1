package cli

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct/cttest"
)

// spotter is the program certspotter, with our hook, as its manual pages say, and logs of ours.
type spotter struct {
	t       *testing.T
	program string
	tiled   bool   // it reads logs that speak static-ct
	dir     string // hooks.d, watchlist, the state and the mails
	env     []string
}

// newSpotter finds Debian's program. $MXCERT_CERTSPOTTER names another one.
func newSpotter(t *testing.T, w *ctWorld) *spotter {
	t.Helper()
	program := os.Getenv("MXCERT_CERTSPOTTER")
	if program == "" {
		path, err := exec.LookPath("certspotter")
		if err != nil && os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("there is no certspotter: packaging/test.sh makes it available")
		} else if err != nil {
			t.Skip("there is no certspotter: packaging/test.sh makes it available")
		}
		program = path
	}
	version, err := exec.CommandContext(t.Context(), program, "-version").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, version)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"hooks.d", "bin", "mails"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hook, err := os.ReadFile("../../../../packaging/hooks/certspotter")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"hooks.d/50-mxcert": string(hook), "watchlist": ".example.org\n",
		"bin/sendmail": "#!/bin/sh\nexec cat >\"$(mktemp '" + dir + "/mails/XXXXXX')\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil { //nolint:gosec // programs
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "mxcert")); err != nil {
		t.Fatal(err)
	}
	s := &spotter{t: t, program: program, dir: dir, tiled: !regexp.MustCompile(`version v?0\.1[5-8]\.`).Match(version)}
	s.env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "CERTSPOTTER_CONFIG_DIR="+dir, "CERTSPOTTER_STATE_DIR="+dir+"/state", noSleep,
		"MXCERT_OURS=mxcert ct ours -c "+w.config+" -")
	t.Logf("%s, static-ct: %t", bytes.TrimSpace(version), s.tiled)
	return s
}

// read lets the program read the logs from the beginning until each is read to an entry, and ends it.
func (s *spotter) read(logs, entries int) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.program, "-verbose", "-logs", filepath.Join(s.dir, "logs.json"))
	cmd.Env, cmd.Cancel, cmd.WaitDelay = s.env, func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 30*time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.Now().Add(3 * time.Minute); s.at(entries) < logs; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			s.t.Fatalf("certspotter ended: %v\n%s", err, said.String())
		default:
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-ended
			s.t.Fatalf("certspotter has not read %d logs up to entry %d:\n%s", logs, entries, said.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := <-ended; err != nil {
		s.t.Fatalf("certspotter: %v\n%s", err, said.String())
	}
}

// at counts the logs that have been read up to an entry, by the state of certspotter.
func (s *spotter) at(entries int) (logs int) {
	files, _ := filepath.Glob(filepath.Join(s.dir, "state", "logs", "*", "state.json"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being replaced
		}
		if regexp.MustCompile(fmt.Sprintf(`"verified_position":\s*\{[^}]*"size":\s*%d\b`, entries)).Match(text) {
			logs++
		}
	}
	return logs
}

// mails returns what the hook has sent.
func (s *spotter) mails() (texts []string) {
	s.t.Helper()
	files, _ := filepath.Glob(filepath.Join(s.dir, "mails", "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		message, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil || message.Header.Get("To") != "root" || !strings.EqualFold(message.Header.Get("Subject"), "[certspotter] certificate discovered for .example.org") {
			s.t.Errorf("%v:\n%s", err, text)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// The real certspotter reads logs of ours and runs our hook: silent about what mxcert ordered, a mail about the rest.
func TestCertspotterReadsLogs(t *testing.T) {
	t.Parallel()
	w := newCTWorld(t, "")
	s := newSpotter(t, w)
	classic, tiled := cttest.NewLog(t, "classic"), cttest.NewLog(t, "tiled")
	both := []*cttest.Log{classic, tiled}
	list := cttest.LogList(t, cttest.Listed{Log: classic, URL: classic.Serve(t)}, cttest.Listed{Log: tiled, URL: tiled.Serve(t), Tiled: true})
	if err := os.WriteFile(filepath.Join(s.dir, "logs.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	take := func(c, pre *x509.Certificate) {
		for _, log := range both {
			log.Take(t, pre, w.ca.Certificate)
			log.Take(t, c, w.ca.Certificate)
		}
	}
	issue := func(names ...string) (c, pre *x509.Certificate) {
		return w.ca.Issue(t, cttest.Template(t, time.Now().Add(90*24*time.Hour), names...), cttest.Key(t).Public(), both...)
	}
	logs := 1
	if s.tiled {
		logs = 2
	}
	take(w.own, w.ownPre)
	foreign, pre := issue("*.example.org")
	take(foreign, pre)
	other, otherPre := issue("www.example.net")
	for range (cttest.MostEntries - 4) / 2 {
		take(other, otherPre)
	}
	s.read(logs, cttest.MostEntries)
	serial := bundle.SerialOf(foreign)
	mails := s.mails()
	if len(mails) == 0 || len(mails) > 2*logs {
		t.Errorf("%d mails", len(mails))
	}
	for _, text := range mails {
		if !strings.Contains(text, "not ours: mxcert did not order it, serial "+serial+"\n") || !strings.Contains(text, "mxcert ct check --accept "+serial+"\n") || !strings.Contains(text, "*.example.org") {
			t.Errorf("a mail about what is foreign:\n%s", text)
		}
	}
}

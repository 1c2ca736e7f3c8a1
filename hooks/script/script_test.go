package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	begins  = 2 * time.Second  // a hook has done by then what its script begins with
	longest = 30 * time.Second // half of the time that a hook sleeps which is not ended
)

var event = Event{
	Event: "deploy", Name: "mx", Domains: []string{"mx.example.org", "host7.example.org"},
	Fullchain: "/var/lib/mxcert/lineages/mx/g1/fullchain.pem", PrivateKey: "/var/lib/mxcert/lineages/mx/g1/privkey.pem",
	Serial: "03ab", NotAfter: time.Date(2027, 1, 2, 4, 4, 5, 0, time.FixedZone("CET", 3600)), Changed: true,
}

// hook writes an executable shell script and returns its path.
func hook(t *testing.T, dir, name, body string) string {
	t.Helper()
	return file(t, dir, name, "#!/bin/sh\n"+body+"\n", 0o755)
}

func file(t *testing.T, dir, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // WriteFile obeys the umask
		t.Fatal(err)
	}
	return path
}

// runOne runs a directory with a single hook in it.
func runOne(t *testing.T, body string, timeout time.Duration) (Outcome, error) {
	t.Helper()
	dir := t.TempDir()
	hook(t, dir, "10-hook", body)
	outcomes, err := Run(t.Context(), dir, event, timeout)
	if len(outcomes) != 1 {
		t.Fatalf("%d outcomes, %v", len(outcomes), err)
	}
	if !errors.Is(err, outcomes[0].Err) {
		t.Errorf("Run returns %v, the outcome has %v", err, outcomes[0].Err)
	}
	return outcomes[0], err
}

// assertError checks what every error must be: typed, named, with a hint, and harmless to print.
func assertError(t *testing.T, err error, kind string, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error of kind %s", err, kind)
	}
	text := e.Error() + e.Hint()
	if e.Kind() != kind || e.Hint() == "" || len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
		t.Errorf("kind %s, want %s: %q, hint %q", e.Kind(), kind, e.Error(), e.Hint())
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

// alive tells whether a process exists and is not a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestEnvironmentIsNewAndComplete(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/mxcert.service")
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("DNSUPDATE_TSIG_SECRET", "secret")
	dir := t.TempDir()
	if err := os.Symlink("/usr/bin/env", filepath.Join(dir, "10-env")); err != nil {
		t.Fatal(err)
	}
	outcomes, err := Run(t.Context(), dir, event, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(outcomes[0].Output), "\n")
	slices.Sort(got)
	want := []string{
		"LANG=C.UTF-8",
		"LEGO_CERT_DOMAIN=mx.example.org",
		"LEGO_CERT_KEY_PATH=/var/lib/mxcert/lineages/mx/g1/privkey.pem",
		"LEGO_CERT_PATH=/var/lib/mxcert/lineages/mx/g1/fullchain.pem",
		"MXCERT_CHANGED=true",
		"MXCERT_DOMAINS=mx.example.org host7.example.org",
		"MXCERT_EVENT=deploy",
		"MXCERT_FULLCHAIN=/var/lib/mxcert/lineages/mx/g1/fullchain.pem",
		"MXCERT_LEFT_OUT=",
		"MXCERT_NAME=mx",
		"MXCERT_NOT_AFTER=2027-01-02T03:04:05Z",
		"MXCERT_PRIVKEY=/var/lib/mxcert/lineages/mx/g1/privkey.pem",
		"MXCERT_SERIAL=03ab",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"RENEWED_DOMAINS=mx.example.org host7.example.org",
		"RENEWED_LINEAGE=/var/lib/mxcert/lineages/mx/g1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEnvironmentWithoutACertificate(t *testing.T) {
	got := Event{Event: "fail", Name: "mx"}.environment()
	for _, variable := range got {
		if strings.HasPrefix(variable, "RENEWED_") || strings.HasPrefix(variable, "LEGO_") {
			t.Errorf("%s is set", variable)
		}
	}
	for _, variable := range []string{"MXCERT_ERROR=", "MXCERT_STAGE=", "MXCERT_HINT="} {
		if !slices.Contains(got, variable) || slices.Contains(Event{Event: "post", Error: "x"}.environment(), variable) {
			t.Errorf("%s is of fail, also if it is empty: %q", variable, got)
		}
	}
	if !slices.Contains(got, "MXCERT_NOT_AFTER=") || !slices.Contains(got, "MXCERT_CHANGED=false") {
		t.Errorf("got %q", got)
	}
	other := Event{Fullchain: "/etc/exim4/exim.crt", PrivateKey: "/etc/exim4/exim.key"}.environment()
	if slices.ContainsFunc(other, func(v string) bool { return strings.HasPrefix(v, "RENEWED_LINEAGE") }) {
		t.Errorf("a lineage without fullchain.pem: %q", other)
	}
}

func TestStandardInput(t *testing.T) {
	o, err := runOne(t, "pwd >&2; exec cat", 0)
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	if err := json.Unmarshal([]byte(strings.TrimPrefix(o.Output, "/\n")), &got); err != nil {
		t.Fatalf("%v: %q", err, o.Output)
	}
	if want := event.normalized(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, name := range []string{`"event"`, `"name"`, `"domains"`, `"fullchain"`, `"privkey"`, `"serial"`, `"not_after":"2027-01-02T03:04:05Z"`, `"changed":true`} {
		if !strings.Contains(o.Output, name) {
			t.Errorf("%s is not in %s", name, o.Output)
		}
	}
}

func TestStandardInputNeedNotBeRead(t *testing.T) {
	dir := t.TempDir()
	hook(t, dir, "10", "exit 0")
	hook(t, dir, "20", "exec <&-; echo closed")
	large := event // more than a pipe holds
	large.Domains = []string{strings.Repeat("a", 100_000)}
	if outcomes, err := Run(t.Context(), dir, large, time.Minute); err != nil || len(outcomes) != 2 {
		t.Errorf("%+v, %v", outcomes, err)
	}
}

func TestHooksRunInOrderAndAllOfThem(t *testing.T) {
	dir := t.TempDir()
	hook(t, dir, "20-b", "echo b; echo 'no \033[31mluck' >&2; exit 3")
	hook(t, dir, "10-a", "echo a")
	hook(t, dir, "30-c", "echo c")
	outcomes, err := Run(t.Context(), dir, event, 0)
	assertError(t, err, "failed", "20-b", "exit status 3", "luck")
	var said []string
	for _, o := range outcomes {
		said = append(said, filepath.Base(o.Hook)+":"+o.Output[:1])
	}
	if !slices.Equal(said, []string{"10-a:a", "20-b:b", "30-c:c"}) || outcomes[0].Err != nil || outcomes[1].Err == nil || outcomes[2].Err != nil {
		t.Errorf("got %+v", outcomes)
	}
}

func TestNoDirectoryNoHooks(t *testing.T) {
	if outcomes, err := Run(t.Context(), filepath.Join(t.TempDir(), "deploy.d"), event, 0); err != nil || outcomes != nil {
		t.Errorf("got %v, %v", outcomes, err)
	}
	path := file(t, t.TempDir(), "file", "", 0o644)
	_, err := Run(t.Context(), path, event, 0)
	assertError(t, err, "unreadable")
}

func TestHang(t *testing.T) {
	o, err := runOne(t, "echo waiting; sleep 60", begins)
	assertError(t, err, "timeout", begins.String(), "waiting", "hooks.timeout")
	if !errors.Is(err, context.DeadlineExceeded) || o.Duration >= begins+grace {
		t.Errorf("%v after %s", err, o.Duration)
	}
}

func TestCrash(t *testing.T) {
	_, err := runOne(t, "kill -SEGV $$", 0)
	assertError(t, err, "failed", "segmentation fault")
}

func TestFlood(t *testing.T) {
	o, err := runOne(t, "echo begin; yes | head -c 100000000; echo end", 5*time.Minute)
	if err != nil || len(o.Output) != 64<<10 || !strings.HasPrefix(o.Output, "begin\ny\n") {
		t.Errorf("%d bytes kept, %v", len(o.Output), err)
	}
}

func TestDeafToSIGTERM(t *testing.T) {
	o, err := runOne(t, "trap '' TERM; echo $$; sleep 60; sleep 60", begins)
	assertError(t, err, "timeout")
	if pid, _ := strconv.Atoi(strings.TrimSpace(o.Output)); pid == 0 || alive(pid) {
		t.Errorf("process %d is still there", pid)
	}
	if o.Duration < begins+grace || o.Duration > longest {
		t.Errorf("took %s", o.Duration)
	}
}

// TestForksAway: a child in a session of its own is out of reach, and must not hold us up.
func TestForksAway(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	o, err := runOne(t, "setsid sh -c 'echo $$; touch "+ready+"; exec sleep 60' & until [ -e "+ready+" ]; do sleep 0.01; done", time.Minute)
	pid, _ := strconv.Atoi(strings.TrimSpace(o.Output))
	if pid > 0 {
		defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	}
	if err != nil || o.Duration > longest || !alive(pid) {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestLeavesAChild: a child in the group ends with the hook.
func TestLeavesAChild(t *testing.T) {
	o, err := runOne(t, "sleep 60 & echo $!", time.Minute)
	pid, _ := strconv.Atoi(strings.TrimSpace(o.Output))
	for deadline := time.Now().Add(longest); alive(pid) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // until its new parent has seen it end
	}
	if err != nil || pid == 0 || alive(pid) {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestWrongInterpreter(t *testing.T) {
	for name, test := range map[string]struct{ content, part string }{
		"missing": {"#!/usr/bin/nosuchshell\n", "interpreter"},
		"none":    {"echo hello\n", "first line"},
		"empty":   {"", "first line"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file(t, dir, "10-hook", test.content, 0o755)
			_, err := Run(t.Context(), dir, event, 0)
			assertError(t, err, "cannot-start", test.part, "#!/bin/sh")
		})
	}
}

func TestWritableByOthers(t *testing.T) {
	for _, mode := range []os.FileMode{0o775, 0o757, 0o777} {
		dir := t.TempDir()
		file(t, dir, "10-hook", "#!/bin/sh\necho ran\n", mode)
		outcomes, err := Run(t.Context(), dir, event, 0)
		assertError(t, err, "unsafe", fmt.Sprintf("%04o", mode), "chmod go-w")
		if outcomes[0].Output != "" {
			t.Error("the hook was run")
		}
	}
	dir := t.TempDir()
	hook(t, dir, "10-hook", "exit 0")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	outcomes, err := Run(t.Context(), dir, event, 0)
	assertError(t, err, "unsafe", "directory")
	if len(outcomes) != 0 {
		t.Errorf("got %+v", outcomes)
	}
}

func TestStrangersHook(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := t.TempDir()
	if err := os.Chown(hook(t, dir, "10-hook", "exit 0"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), dir, event, 0)
	assertError(t, err, "unsafe", "user 65534")
}

func TestWhatIsNoHook(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".hidden", "10-hook~", "10-hook.bak", "10-hook.dpkg-dist", "10-hook.dpkg-old", "10-hook.rpmsave", "#10-hook#", ".10-hook.swp", "10-hook.ucf-new"} {
		hook(t, dir, name, "echo ran")
	}
	file(t, dir, "README", "read me", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	outcomes, err := Run(t.Context(), dir, event, 0)
	if err != nil || len(outcomes) != 11 {
		t.Errorf("%d outcomes, %v", len(outcomes), err)
	}
	for _, o := range outcomes {
		if o.Skipped == "" || o.Output != "" {
			t.Errorf("%+v", o)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "20-dangling")); err != nil {
		t.Fatal(err)
	}
	_, err = Run(t.Context(), dir, event, 0)
	assertError(t, err, "unreadable", "20-dangling")
}

func TestCancel(t *testing.T) {
	dir := t.TempDir()
	ready := filepath.Join(t.TempDir(), "ready")
	hook(t, dir, "10-slow", "touch "+ready+"; sleep 60")
	hook(t, dir, "20-next", "echo ran")
	ctx, cancel := context.WithCancel(t.Context())
	var stopped time.Time
	go func() {
		for _, err := os.Stat(ready); err != nil; _, err = os.Stat(ready) {
			time.Sleep(time.Millisecond)
		}
		stopped = time.Now()
		cancel()
	}()
	outcomes, err := Run(ctx, dir, event, time.Minute)
	assertError(t, err, "canceled", "10-slow")
	if len(outcomes) != 1 || !errors.Is(err, context.Canceled) || time.Since(stopped) > grace {
		t.Errorf("%+v, %v", outcomes, err)
	}
	outcomes, err = Run(ctx, dir, event, time.Minute)
	assertError(t, err, "canceled", "not all hooks")
	if len(outcomes) != 0 {
		t.Errorf("%+v", outcomes)
	}
}

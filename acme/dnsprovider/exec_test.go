package dnsprovider_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

// script writes a shell script and gives the variables to run it with: OUT is a file beside it.
func script(t *testing.T, body string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dns-hook")
	writeScript(t, path, "#!/bin/sh\n"+body)
	return map[string]string{"EXEC_PATH": path, "OUT": path + ".out"}
}

func writeScript(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock() // a child that is forked now would hold the file open for writing: ETXTBSY
	err := os.WriteFile(path, []byte(text), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestProgram(t *testing.T) {
	for mode, want := range map[string]string{
		"":    "present _acme-challenge.mx.example.org. one\npresent _acme-challenge.example.com. two\ncleanup _acme-challenge.mx.example.org. one\ncleanup _acme-challenge.example.com. two\n",
		"RAW": "present -- mx.example.org token-one keyauth-one\npresent -- example.com token-two keyauth-two\ncleanup -- mx.example.org token-one keyauth-one\ncleanup -- example.com token-two keyauth-two\n",
	} {
		env := script(t, `echo "$*" >>"$OUT"`)
		env["EXEC_MODE"] = mode
		solver := newSolver(t, "exec", env)
		records := []dnsprovider.TXT{record("mx.example.org", "one"), record("example.com", "two")}
		if err := errors.Join(solver.Present(t.Context(), records), solver.CleanUp(t.Context(), records)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, env["OUT"]); got != want {
			t.Errorf("mode %q: the script got\n%s", mode, got)
		}
	}
}

// TestProgramEnvironment: it sees dns.env, nothing of the process, and nothing of a provider that is being set up.
func TestProgramEnvironment(t *testing.T) {
	t.Setenv("PROCESS_SECRET", "p")
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	env := script(t, `env >>"$OUT"`)
	env["API_TOKEN"], env["KEY_FILE"] = "for the script", "/a/path/that/need/not/exist"
	solver := newSolver(t, "exec", env)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = dnsprovider.New("hetzner", map[string]string{"HETZNER_API_TOKEN": "of another provider"}, resolve.New([]string{"127.0.0.1:1"}))
			}
		}
	}()
	for range 20 {
		if err := solver.Present(t.Context(), []dnsprovider.TXT{record("mx.example.org", "x")}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
	got := "\n" + read(t, env["OUT"])
	for _, want := range []string{"API_TOKEN=for the script\n", "KEY_FILE=/a/path", "\nPATH=/", "LANG="} {
		if strings.Count(got, want) != 20 {
			t.Errorf("%q is there %d times", want, strings.Count(got, want))
		}
	}
	for _, private := range []string{"PROCESS_SECRET", "NOTIFY_SOCKET", "HETZNER_API_TOKEN"} {
		if strings.Contains(got, private) {
			t.Errorf("the script sees %s", private)
		}
	}
	if _, leaked := os.LookupEnv("API_TOKEN"); leaked {
		t.Error("the process sees the script's variable")
	}
}

func TestProgramFails(t *testing.T) {
	for _, tt := range []struct{ what, body, says, hides string }{
		{"with a message", "echo working; echo 'API says: quota exceeded' >&2; exit 3", `exit status 3; it said "API says: quota exceeded"`, ""},
		{"without one", "exit 1", "exit status 1", "it said"},
		{"by a signal", "kill -SEGV $$", "signal: segmentation fault", ""},
		{"with its secret in the message", `echo "401 for token $API_TOKEN"; exit 1`, "401 for token (API_TOKEN)", "s3cr3t+value"},
		{"after a long line", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end; exit 1", `it said "end"`, ""},
		{"at control characters", "printf 'a\\033[31mb\\n'; exit 1", `it said "a [31mb"`, "\x1b"},
	} {
		env := script(t, tt.body)
		env["API_TOKEN"] = "s3cr3t+value"
		err := newSolver(t, "exec", env).Present(t.Context(), []dnsprovider.TXT{record("mx.example.org", "x")})
		e, ok := errors.AsType[*dnsprovider.Error](err)
		if !ok || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Error(), "_acme-challenge.mx.example.org: "+env["EXEC_PATH"]+" present: ") || (tt.hides != "" && strings.Contains(e.Error(), tt.hides)) {
			t.Errorf("%s: %v", tt.what, err)
		} else if !e.Temporary() || e.Kind() != "dns-update" || !strings.Contains(e.Hint(), env["EXEC_PATH"]) {
			t.Errorf("%s: kind %s, hint %s", tt.what, e.Kind(), e.Hint())
		}
	}
}

func TestProgramCleansUpAllTheSame(t *testing.T) {
	env := script(t, `echo "$2" >>"$OUT"; test "$3" != one`)
	solver := newSolver(t, "exec", env)
	records := []dnsprovider.TXT{record("a.example.org", "one"), record("b.example.org", "two")}
	if err := solver.CleanUp(t.Context(), records); err == nil || !strings.Contains(err.Error(), "a.example.org") {
		t.Errorf("got %v", err)
	}
	if got := read(t, env["OUT"]); got != "_acme-challenge.a.example.org.\n_acme-challenge.b.example.org.\n" {
		t.Errorf("it was run for %q", got)
	}
}

// TestProgramIsStopped with all that it has started, and waited for.
func TestProgramIsStopped(t *testing.T) {
	for what, body := range map[string]string{
		"heeds SIGTERM":   `trap 'echo stopped >>"$OUT"; exit 1' TERM; echo run >>"$OUT"; sleep 60 & wait`,
		"ignores SIGTERM": `trap '' TERM; echo run >>"$OUT"; sleep 60; sleep 60`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := script(t, body)
			solver := newSolver(t, "exec", env)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for range 12_000 {
					if text, err := os.ReadFile(env["OUT"]); err == nil && len(text) > 0 {
						cancel()
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			start := time.Now()
			err := solver.Present(ctx, []dnsprovider.TXT{record("mx.example.org", "x")})
			if !errors.Is(err, context.Canceled) || time.Since(start) > 20*time.Second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
			if what == "heeds SIGTERM" && !strings.Contains(read(t, env["OUT"]), "stopped") {
				t.Error("it had no chance")
			}
		})
	}
}

// TestProgramLeavesSomethingRunning: a daemon that keeps the output open holds nobody up.
func TestProgramLeavesSomethingRunning(t *testing.T) {
	t.Parallel()
	env := script(t, `sleep 60 & exit 0`)
	start := time.Now()
	if err := newSolver(t, "exec", env).Present(t.Context(), []dnsprovider.TXT{record("mx.example.org", "x")}); err != nil || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestProgramSettings(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, env := range map[string]map[string]string{
		"EXEC_PATH: it is missing":       {},
		plain:                            {"EXEC_PATH": plain},
		"/nonexistent":                   {"EXEC_PATH": "/nonexistent"},
		`EXEC_MODE: "raw" is not a mode`: {"EXEC_PATH": "/bin/sh", "EXEC_MODE": "raw"},
		"EXEC_PATH: exec: \"nowhere\": ": {"EXEC_PATH": "nowhere"},
	} {
		_, err := dnsprovider.New("exec", env, resolve.New(nil))
		if e, ok := errors.AsType[*dnsprovider.Error](err); !ok || !strings.Contains(e.Error(), says) || e.Kind() != "dns-config" || e.Hint() == "" {
			t.Errorf("%v does not say %q", err, says)
		}
	}
}

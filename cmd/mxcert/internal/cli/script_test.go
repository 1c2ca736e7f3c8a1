package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets this binary be mxcert: the scripts, and the tests that kill it, start it under that name. The tests wait
// more than they compute, so that more of them run at once than there are processors, unless -parallel says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"mxcert": program})
}

// testRelease is the version of the program under test.
const testRelease = "0.0.0-dev"

// program is what main does, but for the protection of memory, which a test may have to look into.
func program() {
	syscall.Umask(0o077)
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, testRelease, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// noSleep is a value of GORACE: a program that was built with -race otherwise sleeps for a second before it ends.
const noSleep = "atexit_sleep_ms=0"

// The command line, as far as it needs no network: testdata/script has a file for each command or rule. A good
// configuration is in $WORK/mxcert.yaml; `exits CODE mxcert …` checks the exit code, `isjson FILE` that all of a file is one
// JSON document.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			text, err := os.ReadFile("testdata/good.yaml")
			if err != nil {
				return err
			}
			env.Setenv("GORACE", noSleep)
			config := strings.ReplaceAll(string(text), "/WORK", env.WorkDir)
			return os.WriteFile(env.WorkDir+"/mxcert.yaml", []byte(config), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "isjson": isJSON},
	})
}

func exits(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	err = ts.Exec(args[1], args[2:]...)
	if failure, ok := errors.AsType[*exec.ExitError](err); ok {
		code = failure.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d\n%s%s", code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func isJSON(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) != 1 {
		ts.Fatalf("usage: isjson FILE")
	}
	if text := ts.ReadFile(args[0]); !json.Valid([]byte(text)) {
		ts.Fatalf("%s is no JSON:\n%s", args[0], text)
	}
}

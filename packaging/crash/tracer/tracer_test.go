//go:build linux && amd64

package tracer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"mxcert/packaging/crash/tracer"
)

// victimEnv makes the test binary a program that writes a file.
const victimEnv = "MXCERT_TEST_TRACED"

func init() { //nolint:gochecknoinits // only here is the main thread sure
	if os.Getenv(victimEnv) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	path := os.Getenv(victimEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	tracer.Mark(tracer.Begin)
	err := os.WriteFile(path, []byte("abcdefgh"), 0o600)
	tracer.Mark(tracer.End)
	fmt.Print(err)
}

// run writes a file under the eyes of at, and gives what the program says and what is in the file.
func run(t *testing.T, at func(tracer.Call) tracer.Verdict) (result tracer.Result, content string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	result, err := tracer.Run([]string{os.Args[0]}, []string{victimEnv + "=" + path}, at)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return result, err.Error()
	}
	return result, string(text)
}

func TestCallsAreSeen(t *testing.T) {
	var seen []string
	result, content := run(t, func(c tracer.Call) tracer.Verdict {
		if c.Index != len(seen) {
			t.Errorf("%v has number %d", c, len(seen))
		}
		seen = append(seen, fmt.Sprint(c.Name, " ", filepath.Base(c.Path), " ", c.Changes, c.Creates))
		return tracer.Verdict{}
	})
	got := strings.Join(seen, "; ")
	if result.Status != 0 || result.Killed || string(result.Stdout) != "<nil>" || content != "abcdefgh" ||
		!strings.HasPrefix(got, "openat file true true; ") || !strings.Contains(got, "write . true true; close . false false; end . false false") {
		t.Errorf("%+v, %q: %s", result, content, got)
	}
}

func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		call     string
		verdict  tracer.Verdict
		says     string
		contains string
	}{
		{"openat", tracer.Verdict{Kill: true}, "", "no such file"},
		{"write", tracer.Verdict{Kill: true}, "", ""},
		{"end", tracer.Verdict{Kill: true}, "", "abcdefgh"},
		{"openat", tracer.Verdict{Errno: syscall.EMFILE}, "too many open files", "no such file"},
		{"write", tracer.Verdict{Errno: syscall.EDQUOT}, "disk quota exceeded", ""},
		{"write", tracer.Verdict{Short: true}, "<nil>", "abcdefgh"},
	} {
		writes := 0
		result, content := run(t, func(c tracer.Call) tracer.Verdict {
			if c.Name == "write" {
				writes++
			}
			if c.Name != tt.call || writes > 1 {
				return tracer.Verdict{}
			}
			return tt.verdict
		})
		if result.Killed != tt.verdict.Kill || !strings.Contains(string(result.Stdout), tt.says) || !strings.Contains(content, tt.contains) || (tt.contains == "" && content != "") {
			t.Errorf("%+v at %s: %+v, says %q, content %q", tt.verdict, tt.call, result, result.Stdout, content)
		}
		if tt.verdict.Short && writes != 2 {
			t.Errorf("a short write was followed by %d others", writes-1)
		}
	}
}

func TestAProgramThatIsNot(t *testing.T) {
	if _, err := tracer.Run([]string{"/nonexistent"}, nil, nil); err == nil {
		t.Error("no error")
	}
}

package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// child is what a process of its own does: it becomes the owner of a directory, and says what it is then.
const child = "MXCERT_TEST_BECOME_OWNER"

func TestMain(m *testing.M) {
	directory, ok := os.LookupEnv(child)
	if !ok {
		os.Exit(m.Run())
	}
	if err := BecomeOwner(directory); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Println("dumpable", dumpable, "home", os.Getenv("HOME"))
	text, err := os.ReadFile("/proc/self/status")
	fmt.Println(string(text), err)
	os.Exit(0)
}

// becomes runs the child and returns what it says.
func becomes(t *testing.T, directory string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{child + "=" + directory, "HOME=/root"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestBecomeOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("MXCERT_TEST_REQUIRE=1, and this is not root")
		}
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		what      string
		uid, gid  int
		user, all string // lines of /proc/self/status
		group     string
		home      string
	}{
		{"a user of this host", 65534, 0, "Uid:\t65534\t65534\t65534\t65534\n", "CapPrm:\t0000000000000000\n", "Gid:\t65534\t65534\t65534\t65534\n", "home /nonexistent"},
		{"a user that nobody knows", 54320, 54321, "Uid:\t54320\t54320\t54320\t54320\n", "CapEff:\t0000000000000000\n", "Gid:\t54321\t54321\t54321\t54321\n", "home /root"},
	} {
		if err := os.Chown(dir, tt.uid, tt.gid); err != nil {
			t.Fatal(err)
		}
		got := becomes(t, dir)
		for _, want := range []string{tt.user, tt.all, tt.group, tt.home, "dumpable 0"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", tt.what, want, got)
			}
		}
		if _, groups, _ := strings.Cut(got, "Groups:"); strings.Contains(strings.SplitN(groups, "\n", 2)[0]+" ", " 0 ") {
			t.Errorf("%s: has root's groups still:\n%s", tt.what, got)
		}
	}
}

// Root stays root if the directory is its own, or missing.
func TestRootKeepsItsOwn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root has these rights")
	}
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if got := becomes(t, dir); !strings.Contains(got, "Uid:\t0\t0\t0\t0\n") {
			t.Errorf("%s: %s", dir, got)
		}
	}
}

package deploy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// exchangeEnv makes the test binary a process that exchanges files below a directory until its standard input ends.
const exchangeEnv = "MXCERT_TEST_EXCHANGE"

// stranger is the user that exchanges them.
const stranger = 65534

// raceNames are the names that a deployment uses in its directory. Links, pipes and directories take their places.
var raceNames = []string{"mx.crt", "mx.key", "mx.pem", "mx.01.pem", "mx.02.pem", "sni.map", "tls.map", "tls.map.db", "current", "current.generations", ".mxcert-mx", ".mxcert-mx.touch"}

func mkdir(t testing.TB, dir string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(dir, mode); err != nil {
		t.Fatal(err)
	}
}

// precious is a directory of root's with files of the same names. It stays as it is.
type precious struct {
	dir    string
	before map[string]string
}

func newPrecious(t *testing.T, dir string) precious {
	t.Helper()
	for _, sub := range []string{"current.generations/x", "current.generations/01-old", ".mxcert-mx/current", "sub/.mxcert-mx"} {
		mkdir(t, filepath.Join(dir, sub), 0o700)
	}
	for _, in := range []string{"", "sub", ".mxcert-mx", "sub/.mxcert-mx"} {
		for _, name := range []string{"mx.crt", "mx.key", "mx.pem", "mx.01.pem", "mx.02.pem", "sni.map", "tls.map", "tls.map.db", ".mxcert-mx.touch"} {
			write(t, filepath.Join(dir, in, name), "mx.example.org /etc/precious\n", 0o600)
		}
	}
	for i := range 6 {
		write(t, filepath.Join(dir, "current.generations", fmt.Sprintf("old%d", i)), "precious", 0o600)
	}
	link(t, os.Symlink, "current.generations/x", filepath.Join(dir, "current"))
	return precious{dir, describe(t, dir)}
}

// unchanged stops the test if something in the directory has changed.
func (p precious) unchanged(t testing.TB) {
	t.Helper()
	after := describe(t, p.dir)
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if before := p.before[path]; before != after[path] {
			t.Errorf("%s was %q and is %q", path, before, after[path])
		}
	}
	for path := range p.before {
		if _, ok := after[path]; !ok {
			t.Errorf("%s is gone", path)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// describe lists what is below a directory, with all that root could change by mistake. The rename of a hard link changes the time of a
// file, so the time of a file with several names does not count.
func describe(t testing.TB, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		s := stat(t, path)
		text := fmt.Sprintf("mode %o, owner %d:%d, size %d", s.Mode, s.Uid, s.Gid, s.Size)
		switch {
		case entry.Type().IsRegular():
			text += fmt.Sprintf(", %q", read(t, path))
		case entry.Type()&fs.ModeSymlink != 0:
			leads, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " to " + leads
		}
		if !strings.HasPrefix(filepath.Base(dir), "linked") {
			text += fmt.Sprintf(", changed at %d.%09d", s.Ctim.Sec, s.Ctim.Nsec)
		}
		seen[path] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// exchanger is the process of the stranger.
type exchanger struct {
	cmd    *exec.Cmd
	output strings.Builder
	stop   func() error
}

// exchange starts a process of the stranger that works on a directory.
func exchange(t *testing.T, dir string) *exchanger {
	t.Helper()
	e := &exchanger{cmd: exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^$")}
	e.cmd.Env = append(os.Environ(), exchangeEnv+"="+dir)
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	e.cmd.Stdout, e.cmd.Stderr = &e.output, &e.output
	stdin, err := e.cmd.StdinPipe()
	if err == nil {
		err = e.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	e.stop = stdin.Close
	return e
}

// end stops the process and returns how many exchanges it has made.
func (e *exchanger) end(t *testing.T) int {
	t.Helper()
	if err := errors.Join(e.stop(), e.cmd.Wait()); err != nil {
		t.Fatalf("%v: %s", err, e.output.String())
	}
	count, err := strconv.Atoi(strings.TrimSpace(e.output.String()))
	if err != nil {
		t.Fatal(e.output.String())
	}
	return count
}

// exchangeLoop is what the process does: it puts something in the place of a file, waits for a moment, and puts the file back. Now and then
// it forgets the latter.
func exchangeLoop(dir string) error {
	ended := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(ended)
	}()
	info, err := os.Stat(filepath.Join(dir, "sub"))
	if err != nil {
		return err
	}
	inside := info.Sys().(*syscall.Stat_t).Uid == stranger
	count := 0
	for {
		select {
		case <-ended:
			fmt.Println(count)
			return nil
		default:
		}
		place, in := filepath.Join(dir, "sub"), filepath.Join(dir, "..", "precious")
		if inside && rand.IntN(3) > 0 {
			name := raceNames[rand.IntN(len(raceNames))]
			place, in = filepath.Join(place, name), filepath.Join(in, name)
		}
		other := filepath.Join(filepath.Dir(place), fmt.Sprint("other", rand.IntN(20)))
		if os.RemoveAll(other) != nil || substitute(other, in, dir) != nil || !swap(other, place) {
			continue // root's directories with files in them stay
		}
		count++
		pause()
		switch rand.IntN(20) {
		case 0:
			if filepath.Base(place) != "sub" {
				_ = os.RemoveAll(place)
			}
			fallthrough
		default:
			_ = swap(other, place)
		}
		pause()
	}
}

// pause waits for less time than a deployment takes, mostly for much less.
func pause() {
	longest := time.Duration(rand.IntN(20)) * time.Microsecond
	if rand.IntN(4) == 0 {
		longest *= 20
	}
	for until := time.Now().Add(longest); time.Now().Before(until); {
		runtime.Gosched()
	}
}

// substitute makes what takes the place of a file or directory.
func substitute(other, precious, dir string) error {
	switch rand.IntN(6) {
	case 0:
		return syscall.Mkfifo(other, 0o600)
	case 1:
		if err := os.Mkdir(other, 0o755); err != nil {
			return err
		}
		for _, name := range raceNames {
			_ = os.Symlink(filepath.Join(filepath.Dir(precious), name), filepath.Join(other, name))
		}
		return nil
	case 2:
		linked, err := filepath.Glob(filepath.Join(dir, "linked", "*"))
		if err == nil && len(linked) > 0 {
			return os.Rename(linked[rand.IntN(len(linked))], other)
		}
	case 3:
		return os.WriteFile(other, []byte("mx.example.org "+precious+"\n"), 0o644)
	}
	return os.Symlink(precious, other)
}

// swap exchanges two names, or renames if the second does not exist.
func swap(a, b string) bool {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE)
	}
	return err == nil
}

// needRootHere skips a test without root, unless the tests must be complete.
func needRootHere(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
		t.Fatal("MXCERT_TEST_REQUIRE=1, and this is not root")
	}
	t.Skip("only root can be led astray by another user")
}

// arena is a directory of the stranger's on the way to the files.
type arena struct {
	dir, sub string // sub holds the files
	precious precious
	linked   precious // its files have second names in the stranger's directory
	owner    int      // of sub
}

func newArena(t *testing.T, owner int) *arena {
	t.Helper()
	base := mountTmpfs(t, "size=64m") // on a disk, each deployment waits for the disk, and so does each exchange
	a := &arena{dir: filepath.Join(base, "way"), sub: filepath.Join(base, "way", "sub"), owner: owner}
	a.precious = newPrecious(t, filepath.Join(base, "precious"))
	mkdir(t, filepath.Join(base, "linked"), 0o700)
	for _, name := range raceNames {
		write(t, filepath.Join(base, "linked", name), "mx.example.org /etc/linked\n", 0o600)
	}
	a.linked = precious{filepath.Join(base, "linked"), describe(t, filepath.Join(base, "linked"))}
	for _, dir := range []string{"linked", "sub"} {
		mkdir(t, filepath.Join(a.dir, dir), 0o755)
		own(t, filepath.Join(a.dir, dir), [2]int{stranger, stranger})
	}
	own(t, a.dir, [2]int{stranger, stranger})
	own(t, a.sub, [2]int{owner, owner})
	for dir := base; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		chmod(t, dir, 0o755)
	}
	return a
}

// relink gives the files of linked second names that the stranger can move, because a deployment may have removed them.
func (a *arena) relink() {
	for _, name := range raceNames {
		_ = os.Link(filepath.Join(a.linked.dir, name), filepath.Join(a.dir, "linked", name))
	}
}

// targets are the layouts, one after the other.
func (a *arena) targets() []deploy.Target {
	file := func(name string) string { return filepath.Join(a.sub, name) }
	list := []deploy.Target{
		pair(a.sub),
		combined(a.sub),
		{Kind: "files", Directory: file("current")},
		{Kind: "exim", Combined: file("mx.{serial}.pem"), SNIMap: file("sni.map"), Default: true},
		pair(a.sub),
		{Kind: "files", Directory: file("current"), Certificate: file("mx.crt"), PrivateKey: file("mx.key"), Group: strconv.Itoa(stranger)},
		{Kind: "postfix", Combined: file("mx.pem"), SNIMap: "hash:" + file("tls.map")},
	}
	for i := range list {
		if a.owner != 0 {
			list[i].Owner = strconv.Itoa(a.owner)
		}
	}
	return list
}

// inTime fails if a function does not return.
func inTime(t *testing.T, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		stacks := make([]byte, 1<<16)
		t.Fatalf("%s does not end\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
	return nil
}

// deployIn makes one deployment, with all that may follow.
func (a *arena) deployIn(i int, b *bundle.Bundle, target deploy.Target) error {
	p, err := tryPlan(b, target)
	if err != nil {
		return err
	}
	p.Accesses()
	p.Summary()
	if err = p.Apply(keepNothing); err == nil && i%3 == 0 {
		err = p.Revert()
	}
	if i%5 == 0 {
		err = errors.Join(err, p.Touch())
	}
	if i%7 == 0 {
		_ = deploy.Check([]deploy.Target{target}, nil)
	}
	return err
}

// TestExchangesOnTheWay: while another user exchanges directories and files on the way without pause, root deploys. It never works in
// another directory, never waits, and says when it fails.
func TestExchangesOnTheWay(t *testing.T) {
	needRootHere(t)
	if _, err := os.Stat("/usr/sbin/postmap"); err != nil {
		fakePostmap(t)
	}
	const rounds = 1000 // with each owner
	key := newKey(t, bundle.EC256)
	bundles := []*bundle.Bundle{newBundle(t, key, 1, time.Now().Add(time.Hour)), newBundle(t, key, 2, time.Now().Add(2*time.Hour))}
	for _, owner := range []int{0, stranger} {
		t.Run(fmt.Sprintf("directory of user %d", owner), func(t *testing.T) {
			a := newArena(t, owner)
			a.relink()
			e := exchange(t, a.dir)
			causes := map[string]int{}
			targets := a.targets()
			for i := range rounds {
				target := targets[i%len(targets)]
				if target.Kind == "postfix" && i%4 > 0 { // it starts programs, which takes long
					target = targets[0]
				}
				err := inTime(t, fmt.Sprintf("deployment %d of %+v", i, target), func() error { return a.deployIn(i, bundles[i/len(targets)%2], target) })
				if err == nil {
					causes["(deployed)"]++
				} else {
					text, _, _ := strings.Cut(err.Error(), "\n")
					causes[text[strings.LastIndex(text, ": ")+2:]]++
				}
				if i%50 == 49 {
					a.precious.unchanged(t)
					a.linked.unchanged(t)
					a.relink()
				}
			}
			exchanges := e.end(t)
			a.precious.unchanged(t)
			a.linked.unchanged(t)
			t.Logf("%d exchanges; %v", exchanges, causes)
			if exchanges < rounds || causes["(deployed)"] < 20 || causes["(deployed)"] == rounds {
				t.Errorf("this test sees nothing: %d exchanges, %v", exchanges, causes)
			}
		})
	}
}

// TestPlantedAtMxcertsOwnNames: what lies at the names of mxcert's temporary files is removed, and neither followed, opened nor changed.
func TestPlantedAtMxcertsOwnNames(t *testing.T) {
	for what, plant := range map[string]func(victim, path string) error{
		"a pipe":          func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
		"a hard link":     os.Link,
		"a symbolic link": os.Symlink,
		"a directory":     func(_, path string) error { return os.MkdirAll(filepath.Join(path, "mx.key"), 0o777) },
	} {
		t.Run(what, func(t *testing.T) {
			dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
			write(t, victim, "precious", 0o600)
			target := pair(dir)
			target.Group = strconv.Itoa(os.Getegid())
			planted := func() {
				for _, name := range []string{".mxcert-mx", ".mxcert-mx.touch"} {
					if err := plant(victim, filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			first := fresh(t, 1)
			apply(t, first, target)
			p := plan(t, fresh(t, 2), target)
			for _, step := range []func() error{func() error { return p.Apply(keepNothing) }, p.Touch, p.Revert, p.Touch} {
				planted()
				if err := inTime(t, "a step", step); err != nil {
					t.Error(err)
				}
				for _, name := range []string{".mxcert-mx", ".mxcert-mx.touch"} {
					if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			holds(t, first, target)
			if mode(t, victim) != 0o600 || string(read(t, victim)) != "precious" {
				t.Errorf("mode %o, %q", mode(t, victim), read(t, victim))
			}
		})
	}
}

package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// useAll makes one file of every kind.
func useAll(t *testing.T, path string) *state.Book {
	t.Helper()
	store, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := state.New(store)
	l := dir.Lineage("mx")
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	unlockDir, err := dir.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlockDir()
	_, added := l.Add(newBundle(t, bundle.EC256, 1), nil, "", "", time.Now())
	_, displaced := l.Displace("/x/exim.key", []byte("key"), time.Now())
	_, noted := l.Note(state.Entry{Records: []state.TXT{{Domain: "a", Name: "a.", Zone: "a.", Value: "v"}}, Created: time.Now()})
	for _, err := range []error{
		added, displaced, noted, l.Save(state.Record{}), l.SaveOrder(state.Order{KeyType: bundle.EC256}), dir.SaveDaemon(1), dir.SaveRunningConfig(nil),
		dir.SaveAccount(state.Account{Directory: "https://ca.example/dir"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func walk(t *testing.T, root string, look func(path string, info fs.FileInfo)) {
	t.Helper()
	n := 0
	err := filepath.Walk(root, func(path string, info fs.FileInfo, err error) error {
		if n++; err == nil {
			look(path, info)
		}
		return err
	})
	if err != nil || n < 20 {
		t.Fatalf("%d files: %v", n, err)
	}
}

func TestModesWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o077, 0o777} {
		path := filepath.Join(t.TempDir(), "state")
		func() {
			defer syscall.Umask(syscall.Umask(mask))
			useAll(t, path)
		}()
		walk(t, path, func(path string, info fs.FileInfo) {
			want := fs.FileMode(0o600)
			if info.IsDir() {
				want = 0o700
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("umask %03o: %s has mode %04o", mask, path, got)
			}
		})
	}
}

func TestWideStateDirectoryIsNarrowed(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Open(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestRootRefusesTheDirectoryOfAnother: root would leave files there that the owner cannot read, and the owner could lead root elsewhere.
func TestRootRefusesTheDirectoryOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("MXCERT_TEST_REQUIRE=1, and this is not root")
		}
		t.Skip("only root may do everything in the directory of another user")
	}
	path := filepath.Join(t.TempDir(), "state")
	useAll(t, path)
	if err := os.Chown(path, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	for _, open := range []func(string) (*disk.Store, error){disk.Open, disk.View} {
		_, err := open(path)
		e, ok := errors.AsType[*state.Error](err)
		if !ok || e.Kind() != "permission" || !strings.Contains(e.Error(), path+": it belongs to user 65534, and root") || !strings.Contains(e.Hint(), "chown -R root: "+path) {
			t.Errorf("%v", err)
		}
	}
}

// TestFullDisk: what was there before stays, and nothing half stays beside it.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, 0) })
	dir := useAll(t, filepath.Join(mount, "state"))
	l := dir.Lineage("mx")
	before, err := l.Generations()
	if err != nil {
		t.Fatal(err)
	}
	fill, err := os.Create(filepath.Join(mount, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	_ = fill.Close()
	_, addErr := l.Add(newBundle(t, bundle.EC256, 2), nil, "", "", time.Now())
	for what, err := range map[string]error{"record": l.Save(state.Record{Applying: true}), "generation": addErr} {
		e, ok := err.(*state.Error)
		if !ok || e.Kind() != "disk-full" || e.Hint() == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if record, repaired, err := l.Load(); err != nil || repaired != "" || record.Applying {
		t.Errorf("the record: %+v, %q, %v", record, repaired, err)
	}
	if got, err := l.Generations(); err != nil || len(got) != len(before) {
		t.Errorf("generations: %+v, %v", got, err)
	}
	for _, pattern := range []string{"lineages/mx/.*", "orders/.*", "journal/.*", ".tmp*"} {
		if left, err := filepath.Glob(filepath.Join(dir.Path(), pattern)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
}

// TestKilledAtTheVeryFirst: where mxcert was killed when it had hardly begun, there is nothing but a temporary file.
func TestKilledAtTheVeryFirst(t *testing.T) {
	path := t.TempDir()
	if err := os.Mkdir(filepath.Join(path, ".tmp-123"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Open(path); err != nil {
		t.Error(err)
	}
	foreign := t.TempDir()
	write(t, "", foreign, ".tmp-123")
	write(t, "", foreign, "somebody's.txt")
	if _, err := disk.Open(foreign); err == nil {
		t.Error("a directory of somebody else is used")
	}
}

// TestForeignDirectoryIsRefused: with a wrong setting, others would lose their access to it.
func TestForeignDirectoryIsRefused(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, "", path, "wtmp")
	if _, err := disk.Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestErrors: a message names the file that the key stands for, and no temporary one.
func TestErrors(t *testing.T) {
	file := write(t, "", t.TempDir(), "file")
	if _, err := disk.Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("open a file: %v", err)
	}
	if _, err := disk.View(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("view nothing: %v", err)
	}
	below := disk.At(file)
	_, readErr := below.Read("a")
	_, lockErr := below.Lock(t.Context(), "a/lock")
	_, listErr := below.List("")
	for want, err := range map[string]error{
		"read " + file + "/a": readErr, "lock " + file + "/a/lock": lockErr, "read " + file: listErr, "write " + file + "/a": below.Replace("a", nil), "remove " + file + "/a": below.Remove("a"),
	} {
		if err == nil || err.Error() != want+": not a directory" {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := disk.At(filepath.Dir(file)).Rename("none", "x"); err == nil || err.Error() != "rename "+filepath.Dir(file)+"/none: no such file or directory" {
		t.Error(err)
	}
}

//go:build linux && amd64

package crash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hard are mount options under which ext4 does not help those who forget fsync(2): by default it writes the data of a
// file that is renamed over another.
const hard = "noauto_da_alloc"

// makeDisk makes an empty ext4 file system in a file. The seed lets a directory list meta.json of a generation last, so
// that it is the last to go when the others have been removed.
func makeDisk(t *testing.T, image string, options ...string) {
	t.Helper()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 4<<20); err != nil {
		t.Fatal(err)
	}
	mkfs := exec.Command("mkfs.ext4", append(options, "-q", "-F", "-b", "1024", "-N", "256", "-m", "0", "-E", "hash_seed=00000001-0000-4000-8000-000000000000", image)...)
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s%v (apt-get install e2fsprogs)", mkfs.Args, out, err)
	}
}

// mounted is a file system on a loop device.
type mounted struct{ image, dir string }

// mount mounts an image. The loop device is given back when it is unmounted.
func mount(image, dir, options string) (*mounted, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	device, err := attach(image)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", image, err)
	}
	defer device.Close()
	if err := unix.Mount(device.Name(), dir, "ext4", unix.MS_NOATIME, options); err != nil {
		return nil, fmt.Errorf("mount %s: %w", image, err)
	}
	return &mounted{image, dir}, nil
}

// attach binds a free loop device. Another process may take the one that was free (EBUSY).
func attach(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for try := 0; ; try++ {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &config); err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) || try == 100 {
			return nil, err
		}
	}
}

// unmount writes everything back and gives the device free. A program that another goroutine is starting holds what is
// open here until its execve(2).
func (m *mounted) unmount() error {
	for range 500 {
		err := unix.Unmount(m.dir, 0)
		if err == nil {
			return os.Remove(m.dir)
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("unmount %s: it stays in use", m.dir), unix.Unmount(m.dir, unix.MNT_DETACH))
}

// commit lets the journal be committed, as any process does that calls fsync(2), and as time does. Data for which no
// blocks are allocated yet stays in memory (ext4, delayed allocation).
func (m *mounted) commit() error {
	file, err := os.OpenFile(filepath.Join(m.dir, "another-process"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return errors.Join(file.Chmod(0o640), file.Chmod(0o600), file.Sync())
}

// copyDisk copies what the device holds now: what a power cut would leave.
func copyDisk(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// ext4 is a mounted ext4 file system in memory: what removes files one after the other does so in the order of a hash.
func ext4(t *testing.T) string {
	t.Helper()
	base := memory(t)
	if os.Geteuid() != 0 {
		return base
	}
	image := filepath.Join(base, "image")
	makeDisk(t, image, "-O", "^has_journal") // what a killed process leaves does not depend on it, and time does
	m, err := mount(image, filepath.Join(base, "disk"), hard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.unmount(); err != nil {
			t.Error(err)
		}
	})
	return m.dir
}

package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stagingPrefix begins the name of the staging directory. This directory is inside the destination's directory, so that rename(2) works. It
// is removed when a transaction ends.
const stagingPrefix = ".mxcert-"

// transaction changes several paths, all of them or none.
type transaction struct {
	lineage string
	entries []*staged
	settle  time.Duration // see Plan.Settle
}

// staged is a complete new file, link or directory that waits for its name. All descriptors that it needs, also for undoing the change, are
// open from the start. So a change can be undone even if nothing can be opened any more.
type staged struct {
	root    *os.Root // the destination's directory
	dir     *os.File // the same directory
	waiting *os.Root // the staging directory
	aside   *os.File // the same directory
	path    string
	name    string // in either directory

	leads     string    // for a link: the absolute path that it leads to
	old       *snapshot // what the plan has seen at the path; nil: nothing
	target    Target
	published bool
	exchanged bool // the old content is now in the staging directory instead
	follows   bool // an OCSP response that comes after its certificate
	withdraws bool // nothing takes the place of the old content, see withdrawnSuffix
}

// begin opens all directories that a change needs, also for undoing it, and removes what a killed run may have left where the new content
// will be.
func (t *transaction) begin(c change) (f *staged, err error) {
	dir, name := filepath.Split(c.path)
	f = &staged{path: c.path, name: name, old: c.old, target: c.target}
	if f.root, err = c.target.open(dir); err != nil {
		return nil, err
	}
	t.entries = append(t.entries, f)
	if f.dir, err = f.root.Open("."); err != nil {
		return nil, err
	}
	if f.waiting, err = t.openStaging(f.root); err != nil {
		return nil, err
	}
	if f.aside, err = f.waiting.Open("."); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // so that the server can try the files in it
		if err = f.letIn(c.access); err != nil {
			return nil, plain(err)
		}
	}
	return f, f.waiting.RemoveAll(f.name)
}

// openStaging makes and opens the staging directory in a destination's directory. The owner of the latter may put something else in its
// place at any time. So all work goes through the directory that is opened here, and nobody else may own it: what is in it stays what it is.
func (t *transaction) openStaging(in *os.Root) (*os.Root, error) {
	name := stagingPrefix + t.lineage
	if err := in.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := openDirectory(in, name)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		if of, ok := accessOf(info); !ok || of.UID != os.Geteuid() || of.Mode&0o022 != 0 {
			err = errChanging
		}
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return root, nil
}

// letIn lets the group of the files search the staging directory. It never sets the setgid bit, which the sandbox of the install helper
// forbids (RestrictSUIDSGID= of systemd.exec(5)), and which root does not need: the files have a group of their own.
func (f *staged) letIn(want Access) error {
	if want.GID < 0 {
		return nil
	}
	if err := f.aside.Chown(-1, want.GID); err != nil {
		return err
	}
	return f.aside.Chmod(0o710)
}

// stage prepares one change next to its destination.
func (t *transaction) stage(c change) error {
	switch {
	case c.staple && c.content == nil:
		return t.stageWithdrawal(c)
	case c.members != nil:
		return t.stageDirectory(c)
	case c.link != "":
		return t.stageLink(c)
	}
	return t.stageFile(c)
}

// stageFile writes a file: owner and mode before content, then fsync.
func (t *transaction) stageFile(c change) error {
	f, err := t.begin(c)
	if err == nil {
		f.follows = c.withdraw
		err = writeNew(f.waiting, f.name, c.content, c.access)
	}
	return wrap("write", c.path, err)
}

// stageLink makes a symbolic link. The owner of a link does not matter, so the staging directory is not opened for its group.
func (t *transaction) stageLink(c change) error {
	c.access = Access{UID: -1, GID: -1}
	f, err := t.begin(c)
	if err == nil {
		f.leads = filepath.Join(filepath.Dir(c.path), c.link)
		err = f.waiting.Symlink(c.link, f.name)
	}
	return wrap("write", c.path, err)
}

// stageDirectory makes a directory with files, complete before it gets its name. It also makes the directory around it if there is none.
func (t *transaction) stageDirectory(c change) error {
	if err := t.stageAround(change{file: file{path: filepath.Dir(c.path), target: c.target}, access: c.access.searchable()}); err != nil {
		return err
	}
	f, err := t.begin(c)
	if err != nil {
		return wrap("write", c.path, err)
	}
	if err := t.makeDirectory(f); err != nil {
		return wrap("write", c.path, err)
	}
	for _, m := range c.members {
		if err := writeNew(f.waiting, filepath.Join(f.name, filepath.Base(m.path)), m.content, m.access); err != nil {
			return wrap("write", filepath.Join(c.path, filepath.Base(m.path)), err)
		}
	}
	directory, err := f.waiting.Open(f.name)
	if err != nil {
		return wrap("write", c.path, err)
	}
	defer directory.Close()
	if err = c.access.searchable().set(directory); err == nil {
		err = directory.Sync()
	}
	return wrap("write", c.path, err)
}

// makeDirectory makes the empty directory of a generation. In a setgid directory it gets that group, which the kernel gives only to what is
// made there: the directory of the generations has no such bit. So it is made in a staging directory beside the link, and moved. Root can
// name the group, and does so. A service in a sandbox can change no group at all.
func (t *transaction) makeDirectory(f *staged) error {
	generations := filepath.Dir(f.path)
	above, err := f.target.open(filepath.Dir(generations))
	if err != nil {
		return err
	}
	defer above.Close()
	if os.Geteuid() == 0 || groupOfSetgid(above) < 0 {
		return f.waiting.Mkdir(f.name, 0o700)
	}
	aside := stagingPrefix + t.lineage
	if err := above.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	defer above.Remove(aside) //nolint:errcheck // if it is not empty, the transaction still needs it
	made := filepath.Join(aside, f.name)
	if err := above.Mkdir(made, 0o700); err != nil {
		return err
	}
	return above.Rename(made, filepath.Join(filepath.Base(generations), aside, f.name))
}

// stageAround makes the directory of the generations. The directory has the right access before it gets its name. If it exists already,
// stageAround corrects its access.
func (t *transaction) stageAround(c change) error {
	there, err := c.target.openSub(c.path)
	if err == nil {
		defer there.Close()
		return wrap("change", c.path, c.access.set(there))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return wrap("open directory", c.path, err)
	}
	f, err := t.begin(c)
	if err == nil {
		err = f.waiting.Mkdir(f.name, 0o700)
	}
	if err != nil {
		return wrap("make", c.path, err)
	}
	made, err := f.waiting.Open(f.name)
	if err != nil {
		return wrap("make", c.path, err)
	}
	defer made.Close()
	if err := c.access.set(made); err != nil {
		return wrap("make", c.path, err)
	}
	if err := f.publish(); err != nil { // no server uses it yet
		return wrap("make", c.path, err)
	}
	return wrap("make", c.path, f.dir.Sync())
}

// openSub opens a directory whose parent is a destination's directory.
func (t Target) openSub(path string) (*os.File, error) {
	root, err := t.open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	sub, err := openDirectory(root, filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	return sub.Open(".")
}

// writeNew makes a file that did not exist before.
func writeNew(root *os.Root, name string, content []byte, want Access) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = want.set(file)
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// publish gives everything that is staged its name, one right after the other. If one fails, it undoes those before it.
func (t *transaction) publish() error {
	for i, f := range t.entries {
		if f.published {
			continue
		}
		if i > 0 && t.withdrew() && (t.entries[i-1].withdraws != f.withdraws || f.follows && !t.entries[i-1].follows) {
			time.Sleep(t.settle)
		}
		if err := f.publish(); err != nil {
			return undone(wrap("replace", f.path, err), t.undo())
		}
	}
	return nil
}

// publish exchanges the new content with the old, so that another exchange can undo this. If there is nothing at the path, or if the file
// system cannot exchange, it renames the new content over the path.
func (f *staged) publish() error {
	if f.withdraws {
		return f.withdraw()
	}
	from, to := int(f.aside.Fd()), int(f.dir.Fd())
	if f.old != nil {
		switch err := unix.Renameat2(from, f.name, to, f.name, unix.RENAME_EXCHANGE); {
		case err == nil:
			f.published, f.exchanged = true, true
			return nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		default:
			return err
		}
	}
	if err := unix.Renameat(from, f.name, to, f.name); err != nil {
		return err
	}
	f.published = true
	return nil
}

// undo undoes what is published, in reverse order.
func (t *transaction) undo() error {
	var problems []error
	for i := len(t.entries) - 1; i >= 0; i-- {
		f := t.entries[i]
		if !f.published {
			continue
		}
		if err := f.undo(t.lineage); err != nil {
			problems = append(problems, wrap("put back", f.path, err))
			continue
		}
		f.published = false
	}
	return errors.Join(problems...)
}

func (f *staged) undo(lineage string) error {
	from, to := int(f.aside.Fd()), int(f.dir.Fd())
	switch {
	case f.withdraws:
		return f.putBack()
	case f.exchanged:
		return unix.Renameat2(from, f.name, to, f.name, unix.RENAME_EXCHANGE)
	case f.old == nil:
		return f.root.RemoveAll(f.name)
	}
	again := &transaction{lineage: lineage}
	defer again.close()
	if err := again.stage(change{file: file{path: f.path, target: f.target}, old: f.old}.back()); err != nil {
		return err
	}
	return again.entries[0].publish()
}

// back returns the change that puts the old content back.
func (c change) back() change {
	if c.staple && !c.served {
		return c.stapleBack()
	}
	c.content, c.link, c.access = c.old.content, c.old.link, c.old.again()
	return c
}

// sync makes sure that the renames survive a power cut.
func (t *transaction) sync() error {
	var problems []error
	for _, f := range t.entries {
		if err := f.dir.Sync(); err != nil {
			problems = append(problems, &Error{Op: opSync, Path: filepath.Dir(f.path), Err: err})
		}
	}
	return errors.Join(problems...)
}

// close removes what is left of the staging and closes the directories. A failure does not affect the files in service, and the next run
// removes what stays.
func (t *transaction) close() {
	for _, f := range t.entries {
		if f.waiting != nil {
			_ = f.waiting.RemoveAll(f.name)
			_ = f.waiting.RemoveAll(f.name + withdrawnSuffix)
		}
	}
	for _, f := range t.entries {
		if err := f.root.Remove(stagingPrefix + t.lineage); err != nil { // another process has put something there
			_ = f.root.RemoveAll(stagingPrefix + t.lineage)
		}
	}
	for _, f := range t.entries {
		for _, file := range []*os.File{f.dir, f.aside} {
			if file != nil {
				_ = file.Close()
			}
		}
		if f.waiting != nil {
			_ = f.waiting.Close()
		}
		_ = f.root.Close()
	}
}

// candidate returns where the new content of a path waits, or the path itself if nothing is staged for it. A staged link leads nowhere from
// its place. But the directory that it will lead to is staged, too, or already in place.
func (t *transaction) candidate(path string) string {
	for _, f := range t.entries {
		switch {
		case f.path != path, f.withdraws:
		case f.leads != "":
			return t.candidate(f.leads)
		default:
			return filepath.Join(filepath.Dir(path), stagingPrefix+t.lineage, f.name)
		}
	}
	return path
}

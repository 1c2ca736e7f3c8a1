package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stagingPrefix begins the name of the staging directory, which lies in the destination's directory so that rename(2)
// works, and is gone when a transaction ends.
const stagingPrefix = ".mxcert-"

// transaction changes several paths, all of them or none.
type transaction struct {
	lineage string
	entries []*staged
}

// staged is something complete that waits for its name. All descriptors that its way to there and back needs are open
// from the beginning: a change can be taken back when nothing can be opened any more.
type staged struct {
	root  *os.Root // the destination's directory
	dir   *os.File // the same
	aside *os.File // the staging directory
	path  string
	name  string // in either directory

	leads     string    // a link: to where, absolute
	old       *snapshot // what the plan has seen at the path; nil: nothing
	target    Target
	published bool
	exchanged bool // what was at the path has this one's place in the staging directory
}

// begin opens the directories for a change of a path and makes sure that nothing of a run that was killed is in its place.
func (t *transaction) begin(i item, old *snapshot, want access) (*staged, error) {
	f, err := t.enter(i, old, want)
	if err != nil {
		return nil, err
	}
	return f, f.root.RemoveAll(f.temporary())
}

// adopt takes in a file that another program has made in the staging directory.
func (t *transaction) adopt(i item, old *snapshot, want access) error {
	f, err := t.enter(i, old, want)
	if err != nil {
		return wrap("write", i.path, err)
	}
	file, err := f.root.OpenFile(f.temporary(), os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return wrap("write", i.path, err)
	}
	if err = want.set(file); err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return wrap("write", i.path, err)
}

func (t *transaction) enter(i item, old *snapshot, want access) (f *staged, err error) {
	dir, name := filepath.Split(i.path)
	f = &staged{path: i.path, name: name, old: old, target: i.target}
	if f.root, err = i.target.open(dir); err != nil {
		return nil, err
	}
	t.entries = append(t.entries, f)
	aside := stagingPrefix + t.lineage
	if err := f.root.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if f.dir, err = f.root.Open("."); err != nil {
		return nil, err
	}
	if f.aside, err = f.root.Open(aside); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // so that the server can be asked to try what is in it
		if err = f.letIn(want); err != nil {
			return nil, plain(err)
		}
	}
	return f, nil
}

// letIn lets the group of the files search the staging directory, and leaves a setgid directory one, so that new files have
// its group by themselves.
func (f *staged) letIn(want access) error {
	mode := fs.FileMode(0o710)
	switch {
	case setgid(f.root):
		mode |= fs.ModeSetgid
	case want.gid < 0:
		return nil
	}
	if want.gid >= 0 {
		if err := f.aside.Chown(-1, want.gid); err != nil {
			return err
		}
	}
	return f.aside.Chmod(mode)
}

// temporary is the place of the new content, relative to root.
func (f *staged) temporary() string { return filepath.Join(filepath.Base(f.aside.Name()), f.name) }

// stageFile writes a file beside its destination: owner and mode before content, then fsync.
func (t *transaction) stageFile(i item, content []byte, want access, old *snapshot) error {
	f, err := t.begin(i, old, want)
	if err == nil {
		err = writeNew(f.root, f.temporary(), content, want)
	}
	return wrap("write", i.path, err)
}

// stageLink makes a symbolic link.
func (t *transaction) stageLink(i item, leads string, old *snapshot) error {
	f, err := t.begin(i, old, access{uid: -1, gid: -1})
	if err == nil {
		f.leads = filepath.Join(filepath.Dir(i.path), leads)
		err = f.root.Symlink(leads, f.temporary())
	}
	return wrap("write", i.path, err)
}

// stageDirectory makes a directory with files, complete before it has its name, and the directory around it where there is
// none yet.
func (t *transaction) stageDirectory(s step) error {
	if err := t.stageAround(s.target, filepath.Dir(s.path), s.searchable()); err != nil {
		return err
	}
	f, err := t.begin(s.item, nil, s.access)
	if err != nil {
		return wrap("write", s.path, err)
	}
	if err := f.root.Mkdir(f.temporary(), 0o700); err != nil {
		return wrap("write", s.path, err)
	}
	for _, m := range s.members {
		if err := writeNew(f.root, filepath.Join(f.temporary(), filepath.Base(m.path)), m.content, m.access); err != nil {
			return wrap("write", filepath.Join(s.path, filepath.Base(m.path)), err)
		}
	}
	directory, err := f.root.Open(f.temporary())
	if err != nil {
		return wrap("write", s.path, err)
	}
	defer directory.Close()
	if err = s.access.searchable().set(directory); err == nil {
		err = directory.Sync()
	}
	return wrap("write", s.path, err)
}

// stageAround makes the directory of the generations, complete with its access before it has its name, or gives one that is
// there the access that it should have.
func (t *transaction) stageAround(target Target, path string, want access) error {
	i := item{path: path, target: target}
	there, err := i.target.openSub(path)
	if err == nil {
		defer there.Close()
		return wrap("change", path, want.set(there))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return wrap("open directory", path, err)
	}
	f, err := t.begin(i, nil, want)
	if err == nil {
		err = f.root.Mkdir(f.temporary(), 0o700)
	}
	if err != nil {
		return wrap("make", path, err)
	}
	made, err := f.root.Open(f.temporary())
	if err != nil {
		return wrap("make", path, err)
	}
	defer made.Close()
	if err := want.set(made); err != nil {
		return wrap("make", path, err)
	}
	if err := f.publish(); err != nil { // nobody looks for it yet
		return wrap("make", path, err)
	}
	return wrap("sync", filepath.Dir(path), f.dir.Sync())
}

// openSub opens a directory whose parent is a destination's directory.
func (t Target) openSub(path string) (*os.File, error) {
	root, err := t.open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Lstat(filepath.Base(path))
	if err == nil && !info.IsDir() {
		err = errNotDirectory
	}
	if err != nil {
		return nil, err
	}
	return root.Open(filepath.Base(path))
}

// searchable is the access to a directory whose files have the access a.
func (a access) searchable() access {
	a.mode |= a.mode & 0o444 >> 2
	a.labels = nil
	return a
}

// writeNew makes a file that was not there.
func writeNew(root *os.Root, name string, content []byte, want access) error {
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

// publish gives all that is staged and not yet published its name, back to back. When one cannot be, nothing is.
func (t *transaction) publish() error {
	for _, f := range t.entries {
		if f.published {
			continue
		}
		if err := f.publish(); err != nil {
			return errors.Join(wrap("replace", f.path, err), t.undo())
		}
	}
	return nil
}

// publish exchanges the staged with what is there, so that this can be taken back by another exchange. Where there is
// nothing, or where the file system cannot do that, the staged is renamed over it.
func (f *staged) publish() error {
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

// undo takes back what is published, in reverse order.
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
	case f.exchanged:
		return unix.Renameat2(from, f.name, to, f.name, unix.RENAME_EXCHANGE)
	case f.old == nil:
		return f.root.RemoveAll(f.name)
	}
	again := &transaction{lineage: lineage}
	defer again.close()
	i := item{path: f.path, target: f.target}
	if err := again.stageOld(i, f.old); err != nil {
		return err
	}
	return again.entries[0].publish()
}

// stageOld stages what was at a path.
func (t *transaction) stageOld(i item, old *snapshot) error {
	if old.link != "" {
		return t.stageLink(i, old.link, old)
	}
	return t.stageFile(i, old.content, old.access(), old)
}

// sync makes the renames durable.
func (t *transaction) sync() error {
	var problems []error
	for _, f := range t.entries {
		if err := f.dir.Sync(); err != nil {
			problems = append(problems, &Error{Op: "sync", Path: filepath.Dir(f.path), Err: err})
		}
	}
	return errors.Join(problems...)
}

// close removes what is left of the staging and closes the directories. Neither matters for the files in service, and the
// next run removes what stays.
func (t *transaction) close() {
	aside := stagingPrefix + t.lineage
	for _, f := range t.entries {
		_ = f.root.Remove(filepath.Join(aside, f.name))
	}
	for _, f := range t.entries {
		err := f.root.Remove(aside)
		for try := 0; err != nil && !errors.Is(err, fs.ErrNotExist) && try < 2; try++ { // it holds a directory, or what postmap has left
			err = f.root.RemoveAll(aside)
		}
	}
	for _, f := range t.entries {
		if f.dir != nil {
			_ = f.dir.Close()
		}
		if f.aside != nil {
			_ = f.aside.Close()
		}
		_ = f.root.Close()
	}
}

// candidate is where what is staged for a path lies; the path itself, where nothing is. A staged link leads nowhere from
// where it lies: what it will lead to is staged too, or in place already.
func (t *transaction) candidate(path string) string {
	for _, f := range t.entries {
		switch {
		case f.path != path:
		case f.leads != "":
			return t.candidate(f.leads)
		default:
			return filepath.Join(filepath.Dir(path), stagingPrefix+t.lineage, f.name)
		}
	}
	return path
}

package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// stagingPrefix begins the name of the staging directory, which lies in the destination's directory so that rename(2)
// works, and is gone when Apply returns.
const stagingPrefix = ".mxcert-"

// Apply makes the changes. keep is called with each file that is about to be replaced, before anything changes; its
// error stops the deployment. When Apply fails, the files are as they were before.
func (p *Plan) Apply(keep func(path string, content []byte) error) error {
	for _, s := range p.steps {
		if s.old != nil && s.differs {
			if err := keep(s.path, s.old.content); err != nil {
				return err
			}
		}
	}
	staged := make([]stagedFile, 0, len(p.steps))
	defer func() {
		for _, f := range staged {
			f.close()
		}
	}()
	for _, s := range p.steps {
		f, err := p.stage(s.path, s.content, s.access)
		if err != nil {
			return err
		}
		staged = append(staged, f)
	}
	for i, f := range staged {
		if err := f.publish(); err != nil {
			return errors.Join(err, p.putBack(p.steps[:i]))
		}
	}
	return syncAll(staged)
}

// Revert puts back what Apply replaced. A file that was not there before stays: removing it would leave the server
// with less than it has now.
func (p *Plan) Revert() error { return p.putBack(p.steps) }

func (p *Plan) putBack(steps []step) error {
	var problems []error
	var staged []stagedFile
	for _, s := range steps {
		if s.old == nil {
			continue
		}
		f, err := p.stage(s.path, s.old.content, access{mode: s.old.mode, uid: s.old.uid, gid: s.old.gid})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		staged = append(staged, f)
	}
	for _, f := range slices.Backward(staged) {
		problems = append(problems, f.publish())
	}
	problems = append(problems, syncAll(staged))
	for _, f := range staged {
		f.close()
	}
	return errors.Join(problems...)
}

// stagedFile is a complete file that waits for its rename.
type stagedFile struct {
	root      *os.Root // the destination's directory
	path      string
	temporary string // relative to root
}

// stage writes a file beside its destination: owner and mode before content, then fsync.
func (p *Plan) stage(path string, content []byte, want access) (f stagedFile, err error) {
	dir, name := filepath.Split(path)
	f = stagedFile{path: path, temporary: filepath.Join(stagingPrefix+p.lineage, name)}
	if f.root, err = openDirectory(dir); err != nil {
		return f, err
	}
	defer func() {
		if err != nil {
			f.close()
			err = &Error{Op: "write", Path: path, Err: err}
		}
	}()
	if err := f.root.Mkdir(filepath.Dir(f.temporary), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	// What a killed run left under this name is ours: the lineage is locked.
	if err := f.root.Remove(f.temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	file, err := f.root.OpenFile(f.temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return f, err
	}
	err = want.set(file)
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = file.Sync()
	}
	return f, errors.Join(err, file.Close())
}

// publish renames the staged file over its destination.
func (f stagedFile) publish() error {
	if err := f.root.Rename(f.temporary, filepath.Base(f.path)); err != nil {
		return &Error{Op: "replace", Path: f.path, Err: err}
	}
	return nil
}

// close removes what is left of the staging and closes the directory.
func (f stagedFile) close() {
	if f.root == nil {
		return
	}
	// Neither matters for the files in service, and the next run removes what stays.
	_ = f.root.Remove(f.temporary)
	_ = f.root.Remove(filepath.Dir(f.temporary))
	_ = f.root.Close()
}

// syncAll makes the renames durable.
func syncAll(staged []stagedFile) error {
	var problems []error
	for _, f := range staged {
		dir, err := f.root.Open(".")
		if err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
		if err != nil {
			problems = append(problems, &Error{Op: "sync", Path: filepath.Dir(f.path), Err: err})
		}
	}
	return errors.Join(problems...)
}

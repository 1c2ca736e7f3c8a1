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
// error stops the deployment. When Apply fails, the files are as they were before, unless only the last fsync failed.
func (p *Plan) Apply(keep func(path string, content []byte) error) error {
	for _, s := range p.steps {
		if s.old != nil && s.differs {
			if err := keep(s.path, s.old.content); err != nil {
				return err
			}
		}
	}
	p.sweep()
	staged := make([]stagedFile, 0, len(p.steps))
	defer func() { closeAll(staged) }()
	for _, s := range p.steps {
		f, err := p.stage(s.item, s.content, s.access)
		if err != nil {
			return err
		}
		staged = append(staged, f)
	}
	for i, f := range staged {
		if err := f.publish(); err != nil {
			return errors.Join(err, p.putBack(p.steps[:i]), p.withdraw(p.steps[:i], staged))
		}
	}
	return syncAll(staged)
}

// sweep removes what a killed run has left, a private key perhaps. The lineage is locked, so that the staging
// directories are nobody else's. What cannot be removed shows when the next file is staged there.
func (p *Plan) sweep() {
	for _, job := range p.jobs {
		for _, i := range job.Target.items(job.Bundle) {
			if root, err := i.target.open(filepath.Dir(i.path)); err == nil {
				_ = root.RemoveAll(stagingPrefix + p.lineage)
				_ = root.Close()
			}
		}
	}
}

// Revert puts back what Apply replaced. A file that was not there before stays: removing it would leave the server
// with less than it has now.
func (p *Plan) Revert() error { return p.putBack(p.steps) }

// putBack restores the old files, all of them or none: half of them would not match.
func (p *Plan) putBack(steps []step) error {
	var staged []stagedFile
	defer func() { closeAll(staged) }()
	for _, s := range steps {
		if s.old == nil {
			continue
		}
		f, err := p.stage(s.item, s.old.content, s.old.access())
		if err != nil {
			return err
		}
		staged = append(staged, f)
	}
	var problems []error
	for _, f := range slices.Backward(staged) {
		problems = append(problems, f.publish())
	}
	return errors.Join(append(problems, syncAll(staged))...)
}

// withdraw removes files that were published where there had been none.
func (p *Plan) withdraw(steps []step, staged []stagedFile) error {
	var problems []error
	for i, s := range steps {
		if s.old == nil {
			if err := staged[i].root.Remove(filepath.Base(s.path)); err != nil {
				problems = append(problems, &Error{Op: "remove", Path: s.path, Err: err})
			}
		}
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
func (p *Plan) stage(i item, content []byte, want access) (f stagedFile, err error) {
	dir, name := filepath.Split(i.path)
	f = stagedFile{path: i.path, temporary: filepath.Join(stagingPrefix+p.lineage, name)}
	if f.root, err = i.target.open(dir); err != nil {
		return f, err
	}
	defer func() {
		if err != nil {
			f.close()
			err = &Error{Op: "write", Path: i.path, Err: err}
		}
	}()
	if err := f.root.Mkdir(filepath.Dir(f.temporary), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	// What was published from here before is gone, but a run that could not publish may have left it.
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
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return f, err
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

func closeAll(staged []stagedFile) {
	for _, f := range staged {
		f.close()
	}
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

package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Apply makes the changes. keep is called with each file that is about to be replaced, before anything changes; its
// error stops the deployment. When Apply fails, the files are as they were before, unless only the last fsync failed.
func (p *Plan) Apply(keep func(path string, content []byte) error) error {
	for _, s := range p.steps {
		if s.old != nil && s.differs && s.link == "" {
			if err := keep(s.path, s.old.content); err != nil {
				return err
			}
		}
	}
	p.sweep()
	t := &transaction{lineage: p.lineage}
	defer t.close()
	for _, s := range p.steps {
		if err := t.stage(s); err != nil {
			return err
		}
	}
	if p.try != nil {
		if err := p.try(t.candidate); err != nil {
			return err
		}
	}
	if err := p.publish(t, (*table).write); err != nil {
		return err
	}
	p.prune()
	return nil
}

// stage prepares one change.
func (t *transaction) stage(s step) error {
	switch {
	case s.members != nil:
		return t.stageDirectory(s)
	case s.link != "":
		return t.stageLink(s.item, s.link, s.old)
	}
	return t.stageFile(s.item, s.content, s.access, s.old)
}

// publish gives the new files their names, and then changes the maps, which read or name them.
func (p *Plan) publish(t *transaction, change func(*table, *transaction) error) error {
	unlock, err := p.lockTables()
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.publish(); err != nil {
		return err
	}
	for _, table := range p.tables {
		if err := change(table, t); err != nil {
			return errors.Join(err, t.undo())
		}
	}
	if err := t.publish(); err != nil {
		return err
	}
	return t.sync()
}

// Revert puts back what Apply replaced, all of it or nothing: half of it would not match. A file that was not there before
// stays: removing it would leave the server with less than it has now.
func (p *Plan) Revert() error {
	t := &transaction{lineage: p.lineage}
	defer t.close()
	for _, s := range p.steps {
		if s.old == nil {
			continue
		}
		if err := t.stageOld(s.item, s.old); err != nil {
			return err
		}
	}
	return p.publish(t, (*table).writeBack)
}

// sweep removes what a killed run has left, a private key perhaps. The lineage is locked, so that the staging
// directories are nobody else's. What cannot be removed shows when the next file is staged there.
func (p *Plan) sweep() {
	for _, job := range p.jobs {
		directories := map[string]bool{}
		for _, path := range job.Target.Places(job.Bundle) {
			directories[filepath.Dir(path)] = true
		}
		if job.Target.Directory != "" {
			directories[job.Target.Directory+generationsSuffix] = true
		}
		for dir := range directories {
			if root, err := job.Target.open(dir); err == nil {
				_ = root.RemoveAll(stagingPrefix + p.lineage)
				_ = root.Close()
			}
		}
	}
}

// Touch makes and removes a file in each directory where a server reads files at fixed paths: one that watches the
// directory reads its files again, which cures a server that has seen a certificate and key of different times (GnuTLS).
func (p *Plan) Touch() error {
	var problems []error
	done := map[string]bool{}
	for _, job := range p.jobs {
		for _, i := range job.Target.items(job.Bundle) {
			dir := filepath.Dir(i.path)
			if done[dir] {
				continue
			}
			done[dir] = true
			problems = append(problems, wrap("touch", dir, p.touch(i.target, dir)))
		}
	}
	return errors.Join(problems...)
}

func (p *Plan) touch(t Target, dir string) error {
	root, err := t.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	name := stagingPrefix + p.lineage + ".touch"
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), root.Remove(name))
}

// tablePatience is how long another run may take that changes the same map.
const tablePatience = 10 * time.Second

// lockTables keeps other certificates from changing the maps meanwhile: by a lock on their directories (flock(2)), in the
// order of the paths.
func (p *Plan) lockTables() (unlock func(), err error) {
	var held []*os.File
	unlock = func() {
		for _, file := range held {
			_ = file.Close()
		}
	}
	locked := map[string]bool{}
	for _, t := range p.tables {
		dir := filepath.Dir(t.path)
		if locked[dir] {
			continue
		}
		locked[dir] = true
		file, err := lockDirectory(t.target, dir)
		if err != nil {
			unlock()
			return nil, wrap("lock", dir, err)
		}
		held = append(held, file)
	}
	return unlock, nil
}

func lockDirectory(t Target, dir string) (*os.File, error) {
	root, err := t.open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(tablePatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			_ = file.Close()
			return nil, err
		}
	}
}

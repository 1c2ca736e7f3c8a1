package deploy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Apply makes the changes. Before anything changes, it calls keep with each file that it is about to replace. If keep returns an error, the
// deployment stops. If Apply fails, the files are as they were before, unless only the last fsync failed.
func (p *Plan) Apply(keep func(path string, content []byte) error) error {
	for _, c := range p.changes {
		if err := c.keep(keep); err != nil {
			return err
		}
	}
	p.sweep()
	t := &transaction{lineage: p.lineage, settle: p.settle}
	defer t.close()
	for _, c := range inTurn(p.changes) {
		if err := t.stage(c); err != nil {
			return err
		}
	}
	if p.try != nil {
		if err := p.try(p.staged(t)); err != nil {
			return err
		}
	}
	if err := p.publish(t, (*sniMap).write); err != nil {
		return err
	}
	p.applied = true
	p.prune()
	return nil
}

// ApplyNew makes only changes that replace nothing: the files of targets where no file has to be replaced. So a server that is about to be
// told to read them finds them. It returns their paths, and is for a plan that is not applied otherwise.
func (p *Plan) ApplyNew() (paths []string, err error) {
	replaced := map[string]bool{}
	for _, c := range p.changes {
		replaced[c.path] = c.old != nil
	}
	for _, m := range p.maps {
		replaced[m.path] = m.old != nil
	}
	added := Plan{lineage: p.lineage}
	wanted := map[string]bool{}
	for _, job := range p.jobs {
		places := job.Target.Places(job.Bundle)
		if slices.ContainsFunc(places, func(path string) bool { return replaced[path] }) {
			continue
		}
		added.jobs = append(added.jobs, job)
		for _, path := range places {
			wanted[path] = true
		}
	}
	for _, c := range p.changes {
		if wanted[c.path] {
			paths = append(paths, c.path)
		}
		if wanted[c.path] || c.target.Directory != "" && wanted[c.target.Directory] { // the second is a new generation
			added.changes = append(added.changes, c)
		}
	}
	for _, m := range p.maps {
		if wanted[m.path] && !slices.ContainsFunc(m.jobs, func(job Job) bool {
			return slices.ContainsFunc(job.Target.Places(job.Bundle), func(path string) bool { return !wanted[path] })
		}) {
			added.maps, paths = append(added.maps, m), append(paths, m.path)
		}
	}
	if len(paths) == 0 {
		return nil, nil
	}
	return paths, added.Apply(func(string, []byte) error { return nil })
}

// keep calls a function with each file whose content the change replaces: for a link, with the files that it leads to.
func (c change) keep(keep func(path string, content []byte) error) error {
	switch {
	case c.old == nil || !c.newContent || c.staple: // a response can be had again
		return nil
	case c.link == "":
		return keep(c.path, c.old.content)
	}
	for name, f := range c.old.files {
		if err := keep(filepath.Join(c.path, name), f.content); err != nil {
			return err
		}
	}
	return nil
}

// staged returns the targets with the paths at which their new files wait.
func (p *Plan) staged(t *transaction) []Target {
	var targets []Target
	for _, job := range p.jobs {
		target := job.Target
		target.Combined = target.combined(job.Bundle)
		for _, path := range []*string{&target.Certificate, &target.PrivateKey, &target.Combined, &target.Directory} {
			*path = t.candidate(*path)
		}
		targets = append(targets, target)
	}
	return targets
}

// publish gives the new files their names. It then changes the maps, because they read or name these files.
func (p *Plan) publish(t *transaction, change func(*sniMap, *transaction) error) error {
	unlock, err := p.lockMaps()
	if err != nil {
		return err
	}
	defer unlock()
	if err := t.publish(); err != nil {
		return err
	}
	for _, m := range p.maps {
		if err := change(m, t); err != nil {
			return undone(err, t.undo())
		}
	}
	if err := t.publish(); err != nil {
		return err
	}
	return t.sync()
}

// Revert puts back what Apply replaced: either all of it or nothing, because half of it would not match. If there was no file before, the
// new one stays, because without it the server would have less than it has now.
func (p *Plan) Revert() error {
	p.sweep()
	t := &transaction{lineage: p.lineage, settle: p.settle}
	defer t.close()
	var back []change
	for _, c := range p.changes {
		if c.staple && !c.served || c.old != nil { // a copy that nothing leads to does no harm
			back = append(back, c.back())
		}
	}
	for _, c := range inTurn(back) {
		if err := t.stage(c); err != nil {
			return err
		}
	}
	return p.publish(t, (*sniMap).writeBack)
}

// Undo puts everything back as it was before Apply. Unlike Revert it removes what Apply has made where nothing was, except an SNI map, which
// stays without the lines of the jobs. It is for a plan that is one part of a deployment whose other part has failed: no server has been asked to
// read the new files. Undo does nothing before Apply.
func (p *Plan) Undo() error {
	if !p.applied {
		return nil
	}
	if err := p.Revert(); err != nil {
		return err
	}
	p.applied = false
	var problems []error
	for i := len(p.changes) - 1; i >= 0; i-- { // a link before the directory that it leads to
		if c := p.changes[i]; c.old == nil {
			problems = append(problems, wrap("remove", c.path, c.remove()))
		}
	}
	return errors.Join(problems...)
}

// remove removes what a change has made where nothing was, unless another program has replaced it.
func (c change) remove() error {
	dir, name := filepath.Split(c.path)
	root, err := c.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch {
	case c.members != nil:
		err := root.RemoveAll(name)
		if above, openErr := c.target.open(filepath.Dir(filepath.Clean(dir))); openErr == nil {
			_ = above.Remove(filepath.Base(dir)) // only if it is empty: no other generation is left
			_ = above.Close()
		}
		return err
	case c.link != "":
		if leads, err := root.Readlink(name); err != nil || leads != c.link {
			return err
		}
	default:
		if now, err := c.target.look(root, dir, name); err != nil || now == nil || c.content == nil || !bytes.Equal(now.content, c.content) {
			return err
		}
	}
	return root.Remove(name)
}

// sweep removes what a killed run has left, which may include a private key. The caller has locked the lineage, so no other process uses
// these staging directories. If something cannot be removed, the next file that is staged there fails and reports it.
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

// Touch makes and removes a file in each directory where a server reads files at fixed paths. A server that watches the directory then
// reads its files again. This cures a server (GnuTLS) that has read a certificate and a key that do not belong together.
func (p *Plan) Touch() error {
	var problems []error
	done := map[string]bool{}
	for _, job := range p.jobs {
		for _, f := range job.Target.files(job.Bundle) {
			dir := filepath.Dir(f.path)
			if done[dir] {
				continue
			}
			done[dir] = true
			problems = append(problems, wrap("touch", dir, p.touch(f.target, dir)))
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
	if err := root.RemoveAll(name); err != nil { // a killed run has left it
		return err
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), root.Remove(name))
}

// mapPatience is how long to wait for another run that changes the same map.
const mapPatience = 10 * time.Second

// lockMaps keeps other certificates from changing the maps at the same time. It locks the maps' directories (flock(2)), in the order of the
// plan.
func (p *Plan) lockMaps() (unlock func(), err error) {
	var held []*os.File
	unlock = func() {
		for _, file := range held {
			_ = file.Close()
		}
	}
	locked := map[string]bool{}
	for _, m := range p.maps {
		dir := filepath.Dir(m.path)
		if locked[dir] {
			continue
		}
		locked[dir] = true
		file, err := lockDirectory(m.target, dir)
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
	for deadline := time.Now().Add(mapPatience); ; time.Sleep(20 * time.Millisecond) {
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

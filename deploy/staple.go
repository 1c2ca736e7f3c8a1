package deploy

import (
	"errors"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// stapleMode is the mode of a new file with an OCSP response, which is public.
const stapleMode = 0o644

// withdrawnSuffix ends the name, in the staging directory, of an OCSP response that was taken away.
const withdrawnSuffix = ".withdrawn"

// ServedSuffix ends the name of the copy of an OCSP response.
const ServedSuffix = ".served"

// served returns the path of the copy of the OCSP response; "" without a response.
func (t Target) served() string {
	if t.OCSP == "" {
		return ""
	}
	return t.OCSP + ServedSuffix
}

// stapleFiles lists the files with the OCSP response: the copy first, because it must be complete before the response is there.
func (t Target) stapleFiles(response []byte) []file {
	if t.OCSP == "" {
		return nil
	}
	return []file{
		{path: t.served(), target: t, staple: true, served: true, content: response},
		{path: t.OCSP, target: t, staple: true, content: response},
	}
}

// stapleFiles lists the files with the OCSP response, if the job has one.
func (j Job) stapleFiles() []file {
	if j.Staple == nil {
		return nil
	}
	return j.Target.stapleFiles(j.Staple)
}

// compareStaple checks the files with the OCSP response. The job's other changes begin at the index before.
func (p *Plan) compareStaple(job Job, before int, remembered map[string]Access) error {
	renews := slices.ContainsFunc(p.changes[before:], func(c change) bool { return c.newContent })
	if job.Staple == nil {
		return p.compareNoStaple(file{path: job.Target.OCSP, target: job.Target, staple: true})
	}
	for _, f := range job.stapleFiles() {
		n := len(p.changes)
		if err := p.compare(f, remembered); err != nil {
			return err
		}
		if len(p.changes) > n && !f.served {
			p.changes[n].withdraw = renews && p.changes[n].old != nil
		}
	}
	return nil
}

// compareNoStaple plans to remove a response that no server may send.
func (p *Plan) compareNoStaple(f file) error {
	dir, name := filepath.Split(f.path)
	root, err := f.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := f.target.look(root, dir, name)
	if err != nil || old == nil {
		return err
	}
	p.changes = append(p.changes, change{file: f, access: old.access, old: old, newContent: true, why: whyExpired})
	return nil
}

// inTurn returns changes in the order of the deployment: first it takes OCSP responses away whose certificate changes, then it changes
// certificates, keys and the copies of the responses, and then it puts the new responses in place. So at every instant a response is of the
// certificate beside it, or there is none.
func inTurn(changes []change) []change {
	var first, middle, last []change
	for _, c := range changes {
		switch {
		case !c.staple, c.served:
			middle = append(middle, c)
		case c.content == nil:
			first = append(first, c)
		case c.withdraw:
			away := c
			away.content = nil
			c.old = nil
			first, last = append(first, away), append(last, c)
		default:
			last = append(last, c)
		}
	}
	return slices.Concat(first, middle, last)
}

// stapleBack returns the change that puts back the response that was there before the deployment, or nothing if there was none: the new one
// is of another certificate.
func (c change) stapleBack() change {
	now := &snapshot{content: c.content, access: c.access}
	if c.content == nil {
		now = nil
	}
	c.content = nil
	if c.old != nil {
		c.content, c.access = c.old.content, c.old.again()
	}
	c.old = now
	return c
}

// stageWithdrawal prepares to take a response away. It needs no more than the directories.
func (t *transaction) stageWithdrawal(c change) error {
	f, err := t.begin(c)
	if err == nil {
		f.withdraws = true
		err = f.waiting.RemoveAll(f.name + withdrawnSuffix)
	}
	return wrap("remove", c.path, err)
}

// withdraw moves the response into the staging directory. It is no error if there is none.
func (f *staged) withdraw() error {
	err := unix.Renameat(int(f.dir.Fd()), f.name, int(f.aside.Fd()), f.name+withdrawnSuffix)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	f.published = err == nil
	return err
}

// withdrew reports whether the transaction has taken a response away.
func (t *transaction) withdrew() bool {
	return slices.ContainsFunc(t.entries, func(f *staged) bool { return f.withdraws && f.published })
}

// putBack undoes withdraw.
func (f *staged) putBack() error {
	return unix.Renameat(int(f.aside.Fd()), f.name+withdrawnSuffix, int(f.dir.Fd()), f.name)
}

package deploy

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// generationsSuffix makes the name of the directory that holds the generations of a link. The directory is next to the link, not in it, so
// that a server which scans a directory does not find it.
const generationsSuffix = ".generations"

// compareGeneration checks the directory that a link leads to.
func (p *Plan) compareGeneration(job Job, remembered map[string]Access) error {
	dir, name := filepath.Split(job.Target.Directory)
	root, err := job.Target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := job.Target.lookThrough(root, name)
	if err != nil {
		return err
	}
	members, why, err := compareFiles(root, job.Target.generation(job.Bundle, job.Target.Directory), old, remembered)
	if err == nil {
		err = job.Target.refuseGiving(members[0].access.made(root).searchable())
	}
	if err == nil && why == "" && !searchable(root, old.link, members[0].access) {
		why = whyAccess
	}
	if err != nil {
		return &Error{Op: "plan", Path: job.Target.Directory, Err: err}
	}
	if why == "" {
		return nil
	}
	leads := filepath.Join(name+generationsSuffix, job.Bundle.Serial()+"-"+unique())
	directory := file{path: filepath.Join(dir, leads), target: job.Target}
	link := file{path: job.Target.Directory, target: job.Target, link: leads}
	p.changes = append(p.changes, change{file: directory, access: members[0].access, members: members, why: whyMissing, newContent: true},
		change{file: link, access: members[0].access, old: old, why: why, newContent: why != whyAccess})
	return nil
}

// compareFiles decides the access to each file of a generation. why says why the existing generation is not the wanted one, or is "" if it
// is.
func compareFiles(root *os.Root, files []file, old *snapshot, remembered map[string]Access) (members []change, why string, err error) {
	for _, f := range files {
		var before *snapshot
		if old != nil {
			before = old.files[filepath.Base(f.path)]
		}
		want, err := f.wanted(root, before, remembered)
		if err != nil {
			return nil, "", err
		}
		members = append(members, change{file: f, access: want})
		switch {
		case before == nil:
			why = whyMissing
		case !bytes.Equal(before.content, f.content) && why != whyMissing:
			why = whyContent
		case want.differs(before.access) && why == "":
			why = whyAccess
		}
	}
	return members, why, nil
}

// searchable reports whether the directories of a generation have the access that matches the access of its files.
func searchable(root *os.Root, generation string, files Access) bool {
	for _, dir := range []string{generation, filepath.Dir(generation)} {
		info, err := root.Stat(dir)
		if err != nil {
			return false
		}
		if has, ok := accessOf(info); !ok || files.searchable().differs(has) {
			return false
		}
	}
	return true
}

// unique makes a name that no other call makes.
func unique() string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// lookThrough reads the link of a target and the generation that it leads to. It returns nil if there is none. It refuses a link that leads
// elsewhere, because another program made it.
func (t Target) lookThrough(root *os.Root, name string) (*snapshot, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Op: "look at", Path: t.Directory, Err: err}
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return nil, &Error{Op: "replace", Path: t.Directory, Err: errNoLink}
	}
	leads, err := root.Readlink(name)
	if err != nil {
		return nil, &Error{Op: "read", Path: t.Directory, Err: err}
	}
	generation, ours := strings.CutPrefix(leads, name+generationsSuffix+"/")
	if !ours || strings.ContainsAny(generation, "/") || generation == ".." || generation == "." || generation == "" {
		return nil, &Error{Op: "replace", Path: t.Directory, Err: errLeadsElsewhere}
	}
	old := &snapshot{link: leads, files: map[string]*snapshot{}}
	for _, f := range t.generation(nil, leads) {
		s, err := t.look(root, filepath.Dir(t.Directory), f.path)
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if err == nil && s != nil { // if the generation is damaged, all of it is replaced
			old.files[filepath.Base(f.path)] = s
			old.access = s.access
		}
	}
	return old, nil
}

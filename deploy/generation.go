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
	"syscall"
)

// generationsSuffix makes the name of the directory that holds the generations of a link, beside it: outside of whatever a
// server may scan.
const generationsSuffix = ".generations"

// compareGeneration looks at the directory that a link leads to.
func (p *Plan) compareGeneration(job Job) error {
	dir, name := filepath.Split(job.Target.Directory)
	root, err := job.Target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	link := item{path: job.Target.Directory, target: job.Target, bundle: job.Bundle}
	old, err := link.lookThrough(root, name)
	if err != nil {
		return err
	}
	files := job.Target.generation(job.Bundle, job.Target.Directory)
	members, why, err := compareFiles(root, files, old)
	if err == nil && why == "" && !searchable(root, old.link, members[0].access) {
		why = whyAccess
	}
	if err != nil {
		return &Error{Op: "plan", Path: job.Target.Directory, Err: err}
	}
	if why == "" {
		return nil
	}
	generation := job.Bundle.Serial() + "-" + unique()
	link.link = filepath.Join(name+generationsSuffix, generation)
	directory := item{path: filepath.Join(dir, link.link), target: job.Target, bundle: job.Bundle}
	p.steps = append(p.steps, step{item: directory, access: members[0].access, members: members, why: whyMissing, differs: true},
		step{item: link, access: members[0].access, old: old, why: why, differs: why != whyAccess})
	return nil
}

// member is a file of a generation directory.
type member struct {
	item
	access
}

// compareFiles tells who is to have access to each file, and why a generation is not the one that is wanted; "" where it is.
func compareFiles(root *os.Root, files []item, old *snapshot) (members []member, why string, err error) {
	for _, i := range files {
		var before *snapshot
		if old != nil {
			before = old.files[filepath.Base(i.path)]
		}
		want, err := wanted(i, root, before)
		if err != nil {
			return nil, "", err
		}
		members = append(members, member{item: i, access: want})
		switch {
		case before == nil:
			why = whyMissing
		case !bytes.Equal(before.content, i.content) && why != whyMissing:
			why = whyContent
		case want.differs(before) && why == "":
			why = whyAccess
		}
	}
	return members, why, nil
}

// searchable reports whether the directories of a generation have the access that goes with that of its files.
func searchable(root *os.Root, generation string, files access) bool {
	for _, dir := range []string{generation, filepath.Dir(generation)} {
		info, err := root.Stat(dir)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || files.searchable().differs(&snapshot{mode: info.Mode().Perm(), uid: int(stat.Uid), gid: int(stat.Gid)}) {
			return false
		}
	}
	return true
}

// unique makes names of which no two are the same.
func unique() string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// lookThrough looks at a link and the generation that it leads to; nil where there is none. A link that leads elsewhere is
// somebody else's.
func (i item) lookThrough(root *os.Root, name string) (*snapshot, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Op: "look at", Path: i.path, Err: err}
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return nil, &Error{Op: "replace", Path: i.path, Err: errNoLink}
	}
	leads, err := root.Readlink(name)
	if err != nil {
		return nil, &Error{Op: "read", Path: i.path, Err: err}
	}
	generation, ours := strings.CutPrefix(leads, name+generationsSuffix+"/")
	if !ours || strings.ContainsAny(generation, "/") || generation == ".." || generation == "." || generation == "" {
		return nil, &Error{Op: "replace", Path: i.path, Err: errLeadsElsewhere}
	}
	old := &snapshot{link: leads, files: map[string]*snapshot{}}
	for _, file := range []string{privkeyFile, fullchainFile, combinedFile} {
		s, err := i.look(root, filepath.Dir(i.path), filepath.Join(leads, file))
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if err == nil && s != nil { // a damaged generation is replaced as a whole
			old.files[file] = s
			old.mode, old.uid, old.gid = s.mode, s.uid, s.gid
		}
	}
	return old, nil
}

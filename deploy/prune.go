package deploy

import (
	"cmp"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// keepGenerations is how many old generations mxcert keeps, in addition to the one in use.
const keepGenerations = 3

// prune removes old generations and versioned files. If something cannot be removed, that does no harm, and the next change tries again.
func (p *Plan) prune() {
	for _, job := range p.jobs {
		if job.Target.Directory != "" {
			leads, err := job.Target.readLink()
			if err != nil {
				continue
			}
			p.pruneIn(job.Target, job.Target.Directory+generationsSuffix, func(string) bool { return true }, []string{filepath.Base(leads)})
		}
		if job.Target.versioned() {
			p.pruneVersions(job)
		}
	}
}

// pruneVersions removes old versioned files, except the newest and those that the map names.
func (p *Plan) pruneVersions(job Job) {
	dir := filepath.Dir(job.Target.Combined)
	versions := versionsOf(job.Target.Combined)
	inUse := []string{filepath.Base(job.Target.combined(job.Bundle))}
	m := parseMap(string(job.Target.readQuietly(job.Target.mapPath())), job.Target.Kind == kindPostfix)
	for _, e := range m.entries {
		for _, path := range m.paths(e.value) {
			inUse = append(inUse, filepath.Base(path))
		}
	}
	p.pruneIn(job.Target, dir, func(name string) bool { return versions.MatchString(filepath.Join(dir, name)) }, inUse)
}

// pruneIn looks at what the function ours accepts in a directory, and removes all but the newest.
func (p *Plan) pruneIn(t Target, dir string, ours func(name string) bool, inUse []string) {
	root, err := t.open(dir)
	if err != nil {
		return
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return
	}
	var old []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && ours(e.Name()) && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(inUse, e.Name()) {
			old = append(old, info)
		}
	}
	slices.SortFunc(old, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, info := range old[min(len(old), keepGenerations):] {
		_ = root.RemoveAll(info.Name())
	}
}

// readLink returns where the link of a target leads.
func (t Target) readLink() (string, error) {
	dir, name := filepath.Split(t.Directory)
	root, err := t.open(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return root.Readlink(name)
}

// readQuietly reads a file at the target. It returns nil if it cannot.
func (t Target) readQuietly(path string) []byte {
	dir, name := filepath.Split(path)
	root, err := t.open(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	found, err := t.look(root, dir, name)
	if err != nil || found == nil {
		return nil
	}
	return found.content
}

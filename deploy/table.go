package deploy

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// table is an SNI map that has to name the files of one or more jobs. Several certificates may share one, so that its
// content is made when it is written, under a lock.
type table struct {
	item
	access
	kind   string // type of a Postfix table (hash); "": the default type
	wishes wishes
	jobs   []Job

	old  *snapshot
	why  string
	back map[string]*string // after Apply: the changes that take it back
}

// mapPath is the path of the SNI map, without the type of table.
func (t Target) mapPath() string {
	_, path := t.splitMap()
	return path
}

// splitMap takes the type of a Postfix table off.
func (t Target) splitMap() (kind, path string) {
	kind, path, found := strings.Cut(t.SNIMap, ":")
	if !found || strings.Contains(kind, "/") {
		return "", t.SNIMap
	}
	return kind, path
}

// makeTables collects what the jobs want of each map: with several types of key, a name has several files.
func makeTables(jobs []Job) []*table {
	var tables []*table
	paths := map[string]map[string][]string{} // of the files, by map and name
	for _, job := range jobs {
		if job.Target.SNIMap == "" {
			continue
		}
		kind, path := job.Target.splitMap()
		i := slices.IndexFunc(tables, func(t *table) bool { return t.path == path })
		if i < 0 {
			i = len(tables)
			tables = append(tables, &table{item: item{path: path, target: job.Target}, kind: kind})
			paths[path] = map[string][]string{}
		}
		t := tables[i]
		t.jobs = append(t.jobs, job)
		for _, name := range job.Bundle.Leaf().DNSNames {
			name = mapName(name, t.postfix())
			paths[path][name] = append(paths[path][name], job.Target.loaded(job)...)
		}
	}
	for _, t := range tables {
		t.wish(paths[t.path])
	}
	return tables
}

// loaded are the files of a job as a map names them.
func (t Target) loaded(job Job) []string {
	if t.Combined != "" {
		return []string{t.combined(job.Bundle)}
	}
	return []string{t.PrivateKey, t.Certificate}
}

func (t *table) postfix() bool { return t.target.Kind == kindPostfix }

func (t *table) wish(paths map[string][]string) {
	l := lines{postfix: t.postfix()}
	t.wishes = wishes{values: map[string]string{}, own: t.owns, preferred: t.target.Default}
	for name, list := range paths {
		t.wishes.values[name] = l.value(list)
	}
	if first := t.jobs[0].Bundle.Leaf().DNSNames; !t.postfix() && len(first) > 0 {
		t.wishes.any = t.wishes.values[mapName(first[0], false)]
	}
}

// owns reports whether a path in the map is one of the jobs', of this or another serial number.
func (t *table) owns(path string) bool {
	for _, job := range t.jobs {
		if job.Target.Combined != "" && versionsOf(job.Target.Combined).MatchString(path) ||
			path == job.Target.Certificate || path == job.Target.PrivateKey {
			return true
		}
	}
	return false
}

// compare looks at the map and reports whether it has to change. A compiled one has to, too, when what it holds of the files
// is not what they will hold.
func (t *table) compare() (changed bool, err error) {
	dir, name := filepath.Split(t.path)
	root, err := t.target.open(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if t.old, err = t.look(root, dir, name); err != nil {
		return false, err
	}
	if t.access, err = wanted(t.item, root, t.old); err != nil {
		return false, &Error{Op: "plan", Path: t.path, Err: err}
	}
	if t.postfix() {
		t.mode = compiledMode
	}
	content, _ := t.merged(t.old)
	switch {
	case t.old == nil:
		t.why = whyMissing
	case !bytes.Equal(content, t.old.content):
		t.why = whyContent
	case t.differs(t.old):
		t.why = whyAccess
	case t.postfix():
		if t.why, err = t.compiledDiffers(t.path); err != nil {
			return false, &Error{Op: "look up in", Path: t.path, Err: err}
		}
	}
	return t.why != "", nil
}

// merged is the text of the map with the lines of the jobs, and what takes them back.
func (t *table) merged(old *snapshot) (text []byte, back map[string]*string) {
	var before string
	if old != nil {
		before = string(old.content)
	}
	l := parseLines(before, t.postfix())
	back = l.apply(t.wishes.changes(l))
	return []byte(l.String()), back
}

// takenBack is the text of the map without what the jobs changed: others may have changed theirs since.
func (t *table) takenBack(now *snapshot) []byte {
	if now == nil {
		return nil
	}
	l := parseLines(string(now.content), t.postfix())
	l.apply(t.back)
	return []byte(l.String())
}

// before tells what a server found through the map: with versioned files, another one than the plan adds.
func (t *table) before(found map[string][]byte) {
	var old lines
	if t.old != nil {
		old = parseLines(string(t.old.content), t.postfix())
	}
	for _, job := range t.jobs {
		if !job.Target.versioned() {
			continue
		}
		path := job.Target.combined(job.Bundle)
		found[path] = nil
		for _, name := range slices.Sorted(maps.Keys(t.wishes.values)) {
			value, _ := old.get(name)
			for _, p := range old.paths(value) {
				if versionsOf(job.Target.Combined).MatchString(p) {
					found[path] = readQuietly(p)
				}
			}
		}
	}
}

func (t *table) step() step {
	return step{item: t.item, access: t.access, old: t.old, differs: true, why: t.why}
}

// write stages the map with the lines of the jobs, and compiles it where that is needed. The files that it names are there
// already.
func (t *table) write(tx *transaction) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	content, back := t.merged(now)
	t.back = back
	if !t.postfix() && now != nil && bytes.Equal(content, now.content) && !t.differs(now) {
		return nil
	}
	if err := t.stageIn(tx, content, now); err != nil || !t.postfix() {
		return err
	}
	why, err := t.compiledDiffers(tx.candidate(t.path))
	if err == nil && why != "" {
		err = errNotCompiled
	}
	return wrap("compile", t.path, err)
}

// writeBack stages the map without them.
func (t *table) writeBack(tx *transaction) error {
	now, err := t.now()
	if err != nil || now == nil {
		return err
	}
	return t.stageIn(tx, t.takenBack(now), now)
}

// now looks at the map again, under the lock.
func (t *table) now() (*snapshot, error) {
	dir, name := filepath.Split(t.path)
	root, err := t.target.open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return t.look(root, dir, name)
}

func (t *table) stageIn(tx *transaction, content []byte, now *snapshot) error {
	if err := tx.stageFile(t.item, content, t.access, now); err != nil || !t.postfix() {
		return err
	}
	source := tx.candidate(t.path)
	files, err := t.compile(source)
	if err != nil {
		return &Error{Op: "compile", Path: t.path, Err: err}
	}
	for _, name := range files {
		if err := t.adopt(tx, filepath.Join(filepath.Dir(t.path), name)); err != nil {
			return err
		}
	}
	return nil
}

// adopt takes a file that postmap has made into the transaction.
func (t *table) adopt(tx *transaction, path string) error {
	i := item{path: path, target: t.target, secret: true}
	dir, name := filepath.Split(path)
	root, err := t.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := i.look(root, dir, name)
	if err != nil {
		return err
	}
	return tx.adopt(i, old, t.access)
}

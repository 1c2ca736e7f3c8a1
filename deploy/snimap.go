package deploy

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sniMap is an SNI map that has to name the files of one or more jobs. Several certificates may share one. So its content is made only when
// it is written, under a lock.
type sniMap struct {
	change
	kind    string // type of a Postfix table (hash); "": the default type
	entries mapEntries
	jobs    []Job
	undo    map[string]*string // after Apply: the lines that undo the change
}

// mapPath returns the path of the SNI map, without the type of table.
func (t Target) mapPath() string {
	_, path := t.splitMap()
	return path
}

// splitMap separates the type of a Postfix table from the path.
func (t Target) splitMap() (kind, path string) {
	kind, path, found := strings.Cut(t.SNIMap, ":")
	if !found || strings.Contains(kind, "/") {
		return "", t.SNIMap
	}
	return kind, path
}

// makeMaps collects what the jobs want in each map. With several key types, a name has several files.
func makeMaps(jobs []Job) []*sniMap {
	var list []*sniMap
	paths := map[string]map[string][]string{} // of the files, by map and name
	for _, job := range jobs {
		if job.Target.SNIMap == "" {
			continue
		}
		kind, path := job.Target.splitMap()
		i := slices.IndexFunc(list, func(m *sniMap) bool { return m.path == path })
		if i < 0 {
			i = len(list)
			list = append(list, &sniMap{change: change{file: file{path: path, target: job.Target}, newContent: true}, kind: kind})
			paths[path] = map[string][]string{}
		}
		m := list[i]
		m.jobs = append(m.jobs, job)
		for _, name := range job.names() {
			name = mapName(name, m.postfix())
			paths[path][name] = append(paths[path][name], job.Target.loaded(job)...)
		}
	}
	for _, m := range list {
		m.want(paths[m.path])
	}
	return list
}

// names returns the names of the bundle that get a line in a map: those that are wanted and are host names. What else a certificate may
// contain would become the line of another host, or several lines.
func (j Job) names() (list []string) {
	for _, name := range j.Bundle.Leaf().DNSNames {
		name = strings.ToLower(name)
		if isHostName(name) && slices.ContainsFunc(j.Names, func(wanted string) bool { return strings.ToLower(wanted) == name }) {
			list = append(list, name)
		}
	}
	return list
}

// isHostName reports whether a name in lower case consists of labels of letters, digits and hyphens (RFC 5890 section 2.3.1). The first
// may be a wildcard.
func isHostName(name string) bool {
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// loaded lists the files of a job as a map names them.
func (t Target) loaded(job Job) []string {
	if t.Combined != "" {
		return []string{t.combined(job.Bundle)}
	}
	return []string{t.PrivateKey, t.Certificate}
}

func (m *sniMap) postfix() bool { return m.target.Kind == kindPostfix }

// want makes the entries of the map from the files for each name.
func (m *sniMap) want(paths map[string][]string) {
	text := mapText{postfix: m.postfix()}
	m.entries = mapEntries{values: map[string]string{}, still: map[string]bool{}, own: m.owns, preferred: m.target.Default}
	for _, job := range m.jobs {
		for _, name := range job.Bundle.Leaf().DNSNames {
			m.entries.still[mapName(strings.ToLower(name), m.postfix())] = true
		}
	}
	for name, list := range paths {
		m.entries.values[name] = text.value(list)
	}
	if first := m.jobs[0].names(); !m.postfix() && len(first) > 0 {
		m.entries.any = m.entries.values[mapName(first[0], false)]
	}
}

// owns reports whether a path in the map belongs to one of the jobs, with this or another serial number.
func (m *sniMap) owns(path string) bool {
	for _, job := range m.jobs {
		if job.Target.Combined != "" && versionsOf(job.Target.Combined).MatchString(path) ||
			path == job.Target.Certificate || path == job.Target.PrivateKey {
			return true
		}
	}
	return false
}

// compare checks the map and reports whether it has to change. A compiled map also has to change if it does not match what the files will
// hold.
func (m *sniMap) compare(remembered map[string]Access) (changed bool, err error) {
	dir, name := filepath.Split(m.path)
	root, err := m.target.open(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if m.old, err = m.look(root, dir, name); err != nil {
		return false, err
	}
	if m.access, err = m.wanted(root, m.old, remembered); err != nil {
		return false, &Error{Op: "plan", Path: m.path, Err: err}
	}
	if m.compiledByRoot() && m.access.UID > 0 {
		return false, &Error{Op: "compile", Path: m.path, Err: errMapOwner}
	}
	if m.postfix() {
		m.access.Mode = compiledMode
	}
	content, _ := m.merged(m.old)
	switch {
	case m.old == nil:
		m.why = whyMissing
	case !bytes.Equal(content, m.old.content):
		m.why = whyContent
	case m.access.differs(m.old.access):
		m.why = whyAccess
	case m.postfix():
		if m.why, err = m.compiledNow(root); err != nil {
			return false, &Error{Op: "look up in", Path: m.path, Err: err}
		}
	}
	return m.why != "", nil
}

// merged returns the text of the map with the lines of the jobs, and the lines that undo this.
func (m *sniMap) merged(old *snapshot) (content []byte, undo map[string]*string) {
	var before string
	if old != nil {
		before = string(old.content)
	}
	text := parseMap(before, m.postfix())
	undo = text.apply(m.entries.changes(text))
	return []byte(text.String()), undo
}

// undone returns the text of the map without the changes of the jobs. It keeps other lines, because other certificates may have changed
// theirs since.
func (m *sniMap) undone(now *snapshot) []byte {
	if now == nil {
		return nil
	}
	text := parseMap(string(now.content), m.postfix())
	text.apply(m.undo)
	return []byte(text.String())
}

// before adds what a server found through the map. With versioned files these are the files that the map named, not those that the plan
// adds.
func (m *sniMap) before(found map[string][]byte) {
	var old mapText
	if m.old != nil {
		old = parseMap(string(m.old.content), m.postfix())
	}
	for _, job := range m.jobs {
		if !job.Target.versioned() {
			continue
		}
		path := job.Target.combined(job.Bundle)
		found[path] = nil
		for _, name := range slices.Sorted(maps.Keys(m.entries.values)) {
			value, _ := old.get(name)
			for _, p := range old.paths(value) {
				if versionsOf(job.Target.Combined).MatchString(p) {
					found[path] = job.Target.readQuietly(p)
				}
			}
		}
	}
}

// write stages the map with the lines of the jobs, and compiles it if it is Postfix's. The files that the map names already exist.
func (m *sniMap) write(tx *transaction) error {
	now, err := m.now()
	if err != nil {
		return err
	}
	content, undo := m.merged(now)
	m.undo = undo
	if !m.postfix() && now != nil && bytes.Equal(content, now.content) && !m.access.differs(now.access) {
		return nil
	}
	return m.stageIn(tx, content, now, true)
}

// writeBack stages the map without the lines of the jobs.
func (m *sniMap) writeBack(tx *transaction) error {
	now, err := m.now()
	if err != nil || now == nil {
		return err
	}
	return m.stageIn(tx, m.undone(now), now, false)
}

// now reads the map again, under the lock.
func (m *sniMap) now() (*snapshot, error) {
	dir, name := filepath.Split(m.path)
	root, err := m.target.open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return m.look(root, dir, name)
}

// look reads the map. For postmap as root, each line of it is an order to read a file.
func (m *sniMap) look(root *os.Root, dir, name string) (*snapshot, error) {
	found, err := m.target.look(root, dir, name)
	if err == nil && found != nil && m.compiledByRoot() && found.access.UID > 0 {
		return nil, &Error{Op: "compile", Path: m.path, Err: errMapOwner}
	}
	return found, err
}

// compiledByRoot reports whether postmap compiles the map with the rights of root.
func (m *sniMap) compiledByRoot() bool { return m.postfix() && os.Geteuid() == 0 }

// stageIn stages the map and its compiled forms. If sure is set, the latter must hold the files of the jobs.
func (m *sniMap) stageIn(tx *transaction, content []byte, now *snapshot, sure bool) error {
	c := m.change
	c.content, c.old = content, now
	if err := tx.stageFile(c); err != nil || !m.postfix() {
		return err
	}
	files, err := m.compile(content, sure)
	if err != nil {
		return &Error{Op: "compile", Path: m.path, Err: err}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := m.stageCompiled(tx, filepath.Join(filepath.Dir(m.path), name), files[name]); err != nil {
			return err
		}
	}
	return nil
}

// stageCompiled stages a file that postmap has made.
func (m *sniMap) stageCompiled(tx *transaction, path string, content []byte) error {
	dir, name := filepath.Split(path)
	root, err := m.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := m.target.look(root, dir, name)
	if err != nil {
		return err
	}
	return tx.stageFile(change{file: file{path: path, target: m.target, secret: true, content: content}, access: m.access, old: old})
}

package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mxcert/hooks/run"
)

// compiledMode is the mode of a Postfix map. Its compiled form holds private keys, and postmap(1) gives the compiled form the mode of the
// source.
const compiledMode = 0o600

// postmapPatience limits one run of postmap.
const postmapPatience = 30 * time.Second

// maxPostmap limits how much output of postmap is kept. It is enough for the files of one name.
const maxPostmap = 1 << 20

// compiledNow returns why the compiled map in a directory does not match what the files will hold, or "" if it does.
func (m *sniMap) compiledNow(root *os.Root) (why string, err error) {
	dir, name := filepath.Split(m.path)
	files := map[string][]byte{}
	for _, suffix := range compiledSuffixes() {
		found, err := m.target.look(root, dir, name+suffix)
		if err != nil {
			return "", err
		}
		if found != nil {
			files[name+suffix] = found.content
		}
	}
	err = m.apart(files, func(source string) error {
		why, err = m.compiledDiffers(source)
		return err
	})
	return why, err
}

// compiledSuffixes are those of the forms that Postfix's types of table have (DATABASE_README of Postfix).
func compiledSuffixes() []string { return []string{".db", ".lmdb", ".cdb", ".dir", ".pag"} }

// apart calls a function with the path of the map in a directory of this process, where files are. Postmap opens files by their paths, with
// the rights of root. In the map's own directory, the owner of the directory could choose with a link which files these are, and a pipe
// would make postmap wait.
func (m *sniMap) apart(files map[string][]byte, do func(source string) error) (err error) {
	dir, err := os.MkdirTemp("", "mxcert-map-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, compiledMode); err != nil {
			return err
		}
	}
	return do(filepath.Join(dir, filepath.Base(m.path)))
}

// writeSource writes the text of the map for postmap. The text names copies of the jobs' files; what postmap makes holds their content, not
// their names. The files of other lines are named as they are, because their targets are not known here.
func (m *sniMap) writeSource(source string, text []byte) error {
	lines := parseMap(string(text), true)
	copies := 0
	for i, e := range lines.entries {
		paths := lines.paths(e.value)
		if !slices.ContainsFunc(paths, m.owns) {
			continue
		}
		for j, path := range paths {
			if !m.owns(path) {
				continue
			}
			content := m.target.readQuietly(path)
			paths[j] = fmt.Sprintf("%s-%d", source, copies)
			copies++
			if content == nil {
				continue // postmap finds no such file, and says so
			}
			if err := os.WriteFile(paths[j], content, compiledMode); err != nil {
				return err
			}
		}
		lines.entries[i].text = lines.format(e.name, lines.value(paths))
	}
	return os.WriteFile(source, []byte(lines.String()), compiledMode)
}

// compiledDiffers returns why the compiled map of a source does not match what the files will hold, or "" if it does.
func (m *sniMap) compiledDiffers(source string) (why string, err error) {
	for name, want := range m.embedded() {
		out, err := postmap("-F", "-q", name, m.named(source))
		if missing, ok := errors.AsType[*exec.Error](err); ok {
			return "", missing
		}
		if err != nil {
			return whyMissing, nil //nolint:nilerr // no compiled map, or no such name in it
		}
		if !bytes.Equal(filled([]byte(out)), filled(want)) {
			return whyContent, nil
		}
	}
	return "", nil
}

// filled removes empty lines, because postmap puts some between files.
func filled(text []byte) []byte {
	return bytes.Join(bytes.FieldsFunc(text, func(r rune) bool { return r == '\n' }), []byte("\n"))
}

// embedded returns what a compiled map should hold for each name: the files, one after another.
func (m *sniMap) embedded() map[string][]byte {
	content := map[string][]byte{}
	for _, job := range m.jobs {
		for _, name := range job.names() {
			name = mapName(name, true)
			for _, path := range job.Target.loaded(job) {
				content[name] = append(content[name], job.content(path)...)
			}
		}
	}
	return content
}

// named returns the map in the notation of postmap: type:path.
func (m *sniMap) named(path string) string {
	if m.kind == "" {
		return path
	}
	return m.kind + ":" + path
}

// compile makes the compiled map of a text and returns its one or two files, by name. If postmap cannot read the files of a line, it leaves
// the line out and still succeeds. If sure is set, compile makes sure that the lines of the jobs are there.
func (m *sniMap) compile(text []byte, sure bool) (files map[string][]byte, err error) {
	err = m.apart(nil, func(source string) error {
		if err := m.writeSource(source, text); err != nil {
			return err
		}
		if _, err := postmap("-F", m.named(source)); err != nil {
			return err
		}
		if sure {
			why, err := m.compiledDiffers(source)
			if err == nil && why != "" {
				err = errNotCompiled
			}
			if err != nil {
				return err
			}
		}
		files, err = readBeside(source)
		return err
	})
	return files, err
}

// readBeside reads the files that postmap has made for a source.
func readBeside(source string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, suffix := range compiledSuffixes() {
		content, err := os.ReadFile(source + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[filepath.Base(source)+suffix] = content
	}
	if len(files) == 0 {
		return nil, errNothingCompiled
	}
	return files, nil
}

// postmap runs Postfix's program. The error contains what the program printed.
func postmap(args ...string) (string, error) {
	program := "/usr/sbin/postmap"
	if _, err := exec.LookPath(program); err != nil {
		program = "postmap"
	}
	output, err := run.Command{Program: program, Args: args, Env: []string{"LC_ALL=C"}, Timeout: postmapPatience, Keep: maxPostmap}.Run(context.Background())
	if complaint := strings.TrimSpace(output.Stderr); run.Is(err, run.Failed) && complaint != "" {
		err = fmt.Errorf("%w: %.300q", err, complaint)
	}
	return output.Stdout, err
}

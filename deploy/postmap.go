package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// compile makes the compiled map next to its source, which is in a staging directory. It returns the names of its one or two files. If
// postmap cannot read the files of a line, it leaves the line out and still succeeds; compiledDiffers finds that.
func (m *sniMap) compile(source string) ([]string, error) {
	if _, err := postmap("-F", m.named(source)); err != nil {
		return nil, err
	}
	return filesBeside(source)
}

func filesBeside(source string) (files []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(source))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(source)+".") {
			files = append(files, e.Name())
		}
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

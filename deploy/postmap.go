package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// compiledMode is that of a Postfix map: its compiled form holds private keys, and postmap(1) gives that the mode of the
// source.
const compiledMode = 0o600

// postmapPatience bounds one run of postmap.
const postmapPatience = 30 * time.Second

// compiledDiffers tells why the compiled map does not hold what the files will hold; "" where it does.
func (t *table) compiledDiffers() (why string, err error) {
	for name, want := range t.embedded() {
		out, err := postmap("-F", "-q", name, t.named(t.path))
		if missing, ok := errors.AsType[*exec.Error](err); ok {
			return "", missing
		}
		if err != nil {
			return whyMissing, nil // no compiled map, or no such name in it
		}
		if !bytes.Equal(bytes.TrimSpace([]byte(out)), bytes.TrimSpace(want)) {
			return whyContent, nil
		}
	}
	return "", nil
}

// embedded is what a compiled map is to hold for each name: the files one after the other.
func (t *table) embedded() map[string][]byte {
	content := map[string][]byte{}
	for _, job := range t.jobs {
		for _, name := range job.Bundle.Leaf().DNSNames {
			name = mapName(name, true)
			for _, path := range job.Target.loaded(job) {
				content[name] = append(content[name], job.content(path)...)
			}
		}
	}
	return content
}

// named is the table as postmap takes it.
func (t *table) named(path string) string {
	if t.kind == "" {
		return path
	}
	return t.kind + ":" + path
}

// compile makes the compiled map beside its source, which is in a staging directory, and gives its names: one file with a
// suffix, or two.
func (t *table) compile(source string) ([]string, error) {
	if _, err := postmap("-F", t.named(source)); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(source), strings.ReplaceAll(filepath.Base(source), "*", `\*`)+".*"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("postmap made no file for a table of type %q", t.kind)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files, err
}

// postmap runs Postfix's program; its complaint is the error.
func postmap(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), postmapPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "postmap", args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if path, err := exec.LookPath("/usr/sbin/postmap"); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if text := strings.TrimSpace(complaint.String()); err != nil && text != "" && ctx.Err() == nil {
		err = fmt.Errorf("%w: %.300q", err, text)
	}
	return out.String(), err
}

package discover

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// trial is what Exim says to a change.
type trial int

const (
	untried trial = iota
	accepted
	refused
)

// try makes the changed configuration in a directory of its own, and asks Exim whether it would read the certificate and the key. said is
// what Exim reads instead, or why it refuses. Only root can try.
func (e *exim) try(ctx context.Context, c *EximChange, certificate, key string) (result trial, said string) {
	if os.Geteuid() != 0 {
		return untried, ""
	}
	directory, err := os.MkdirTemp("", "mxcert-try-")
	if err != nil {
		return untried, ""
	}
	defer os.RemoveAll(directory)
	candidate := filepath.Join(directory, "candidate")
	if err := e.build(ctx, c, directory, candidate); err != nil {
		return untried, ""
	}
	if _, stderr, err := run(ctx, "", e.program, "-C", candidate, "-bV"); err != nil {
		return refused, firstLine(complaint(stderr), stderr)
	}
	out, _, err := run(ctx, "", e.program, "-C", candidate, "-bP", "tls_certificate", "tls_privatekey")
	if err != nil {
		return untried, ""
	}
	if values := settings(out); values["tls_certificate"] != certificate || values["tls_privatekey"] != key {
		return refused, "Exim would still read " + values["tls_certificate"]
	}
	return accepted, ""
}

// build writes the changed configuration to candidate.
func (e *exim) build(ctx context.Context, c *EximChange, directory, candidate string) error {
	if e.configFile != debianGenerated {
		return os.WriteFile(candidate, []byte(c.files[0].text()), 0o600)
	}
	program, err := find("update-exim4.conf")
	if err != nil {
		return err
	}
	script, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	source, shown := filepath.Dir(debianMacros), filepath.Join(directory, "exim4")
	if err := mirror(source, shown, c.Files()); err != nil {
		return err
	}
	// update-exim4.conf takes another directory, but this file always from the usual one.
	changed := strings.ReplaceAll(string(script), debianMacros, filepath.Join(shown, filepath.Base(debianMacros)))
	_, _, err = run(ctx, changed, "/bin/sh", "-s", "--", "-d", shown, "-o", candidate)
	return err
}

// mirror makes a directory that looks like another, by links, but has other texts for some files.
func mirror(source, shown string, changed []ChangedFile) error {
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(shown, strings.TrimPrefix(path, source))
		if entry.IsDir() {
			return os.Mkdir(to, 0o700)
		}
		return os.Symlink(path, to) //nolint:gosec // the copy is in a directory that only root can enter
	})
	for _, f := range changed {
		to := filepath.Join(shown, strings.TrimPrefix(f.Path, source))
		if f.Exists && err == nil {
			err = os.Remove(to)
		}
		err = errors.Join(err, os.WriteFile(to, []byte(f.New), 0o600))
	}
	return err
}

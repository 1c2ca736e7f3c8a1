package discover

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	child "mxcert/hooks/run"
)

// patience limits one run of a server's program. The programs answer in milliseconds, but a name server that does not answer may delay
// Exim.
const patience = 15 * time.Second

// maxOutput is how much of a program's output is kept.
const maxOutput = 1 << 20

// find returns the path of the first program that exists, in mxcert's own PATH or in the usual directories.
func find(names ...string) (string, error) {
	for _, name := range names {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), filepath.SplitList(child.Path)...) {
			path := filepath.Join(dir, name)
			info, err := os.Stat(path)
			if err == nil && filepath.IsAbs(path) && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", ErrAbsent
}

// run runs a program and returns its output. The error is an *Error.
func run(ctx context.Context, input, program string, args ...string) (stdout, stderr string, err error) {
	return runUntil(ctx, "", input, program, args...)
}

// runUntil is run that stops the program as soon as its standard output has a text; "" does not.
func runUntil(ctx context.Context, until, input, program string, args ...string) (stdout, stderr string, err error) {
	output, err := child.Command{
		Program: program, Args: args, Env: []string{"LC_ALL=C", "HOME=/"}, Dir: "/", Input: []byte(input), Timeout: patience, Keep: maxOutput, Until: until,
	}.Run(ctx)
	if err != nil {
		err = &Error{Program: filepath.Base(program), Args: args, Err: err, Said: firstLine(output.Stderr, output.Stdout)}
	}
	return output.Stdout, output.Stderr, err
}

// firstLine returns the first line of the first text that has one.
func firstLine(texts ...string) string {
	for _, text := range texts {
		for _, line := range strings.Split(text, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				return line
			}
		}
	}
	return ""
}

// settings reads lines of the form name = value.
func settings(text string) map[string]string {
	values := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if name, value, found := strings.Cut(line, "="); found {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return values
}

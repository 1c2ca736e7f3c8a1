package discover

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Sound asks the server whether its configuration is in order: exim -bV, postfix check, doveconf -n. One that is not in
// order keeps a reload from working, and a restart from coming up. The error is ErrAbsent, an *Unsound, or an *Error where
// the program could not be asked. The answer is good for root only: others cannot read all of it.
func Sound(ctx context.Context, kind string) error {
	check := map[string][]string{"exim": {"exim4", "-bV"}, "postfix": {"postfix", "check"}, "dovecot": {"doveconf", "-n"}}[kind]
	if check == nil {
		return ErrAbsent
	}
	programs := check[:1]
	if kind == "exim" {
		programs = []string{"exim4", "exim"}
	}
	program, err := find(programs...)
	if err != nil {
		return err
	}
	stdout, stderr, err := run(ctx, "", program, check[1:]...)
	failed, ok := errors.AsType[*Error](err)
	if !ok || failed.unfinished() {
		return err
	}
	said := complaint(stderr + "\n" + stdout)
	if said == "" && kind == "postfix" { // it tells syslog; postconf tells us
		if postconf, findErr := find("postconf"); findErr == nil {
			_, stderr, _ := run(ctx, "", postconf, "-n")
			said = complaint(stderr)
		}
	}
	if said == "" {
		return err // it failed for another reason: a sandbox, no rights
	}
	return &Unsound{Server: kind, Said: said, Command: strings.Join(check, " ")}
}

// unfinished reports whether the program gave no answer at all.
func (e *Error) unfinished() bool {
	_, exited := errors.AsType[interface {
		error
		ExitCode() int
	}](e.Err)
	return !exited
}

// Unsound is a configuration with a fault in it.
type Unsound struct {
	Server  string
	Said    string // foreign text
	Command string // that says it
}

// Error says what the server complains of.
func (e *Unsound) Error() string {
	return fmt.Sprintf("the configuration of %s is not in order, so that it could not be reloaded: %s", serverName(e.Server), printable(e.Said))
}

// Kind is broken-configuration.
func (e *Unsound) Kind() string { return "broken-configuration" }

// Hint says how to see it.
func (e *Unsound) Hint() string {
	return "mend it, and look with: " + e.Command + "; the certificate waits and is deployed by the next pass"
}

// timestamp begins the lines that Exim and Postfix print for a log.
var timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `) //nolint:gochecknoglobals // a constant

// faults are words of the lines by which the servers complain of their configuration.
func faults() []string {
	return []string{"configuration error", "configuration file", "fatal: /", "fatal: bad", "fatal: error in config", "missing '='", "not found in", "unknown setting"}
}

// complaint is the line that says what is wrong with a configuration, with the one that continues it; "" where none does.
func complaint(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lower := strings.ToLower(line)
		if !slices.ContainsFunc(faults(), func(word string) bool { return strings.Contains(lower, word) }) || strings.Contains(lower, "search path") {
			continue
		}
		line = timestamp.ReplaceAllString(strings.TrimSpace(line), "")
		if i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
			line += " " + strings.TrimSpace(lines[i+1])
		}
		return line
	}
	return ""
}

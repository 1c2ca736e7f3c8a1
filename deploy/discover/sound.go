package discover

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Sound asks the server whether its configuration is valid: exim -bV, postfix check, doveconf -n. With a broken one a reload fails, and the
// server does not start again. The error is ErrAbsent or an *Error; its kind is broken-configuration if the server complains. Only root
// gets a reliable answer, because other users cannot read all of the configuration.
func Sound(ctx context.Context, kind string) error {
	check := map[string][]string{kindExim: {"exim4", "-bV"}, kindPostfix: {"postfix", "check"}, kindDovecot: {"doveconf", "-n"}}[kind]
	if check == nil {
		return ErrAbsent
	}
	programs := check[:1]
	if kind == kindExim {
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
	if said == "" && kind == kindPostfix { // postfix check complains to syslog; postconf prints the complaint
		if postconf, findErr := find("postconf"); findErr == nil {
			_, stderr, _ := run(ctx, "", postconf, "-n")
			said = complaint(stderr)
		}
	}
	if said == "" {
		return err // another reason: a sandbox, or missing rights
	}
	return &Error{Program: check[0], Args: check[1:], Said: said, kind: kindBroken,
		text: fmt.Sprintf("the configuration of %s is not in order, so that it could not be reloaded: %s", serverName(kind), quote(said)),
		hint: "fix it, and look with: " + strings.Join(check, " ") + "; the certificate waits and is deployed by the next pass"}
}

// unfinished reports whether the program gave no answer at all.
func (e *Error) unfinished() bool {
	_, exited := errors.AsType[interface {
		error
		ExitCode() int
	}](e.Err)
	return !exited
}

// timestamp matches the beginning of lines that Exim and Postfix print for a log.
var timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `) //nolint:gochecknoglobals // a constant

// faults lists words that appear when the servers complain about their configuration.
func faults() []string {
	return []string{"configuration error", "configuration file", "fatal: /", "fatal: bad", "fatal: error in config", "missing '='", "not found in", "unknown setting"}
}

// complaint returns the line that says what is wrong with a configuration, together with the line that continues it, or "" if there is
// none.
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

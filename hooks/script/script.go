// Package script runs the administrator's own hooks: the executables in a directory such as /etc/mxcert/hooks/deploy.d. It runs them in the
// order of their names. Package run describes how: without a shell, with a clean environment, for a limited time.
//
// A hook gets the event in MXCERT_… variables, and as a JSON document on standard input, which it may ignore. It also gets the variables
// that scripts for certbot (RENEWED_LINEAGE, RENEWED_DOMAINS) and lego (LEGO_CERT_PATH, LEGO_CERT_KEY_PATH, LEGO_CERT_DOMAIN) expect.
//
// Whoever may write a hook gets the rights of mxcert. So the package refuses files and directories that others could write, and says why.
//
// Not supported: hooks that run as another user, arguments, subdirectories, and a check of the directories above.
package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Event is what a hook gets. Zero fields become empty variables, except RENEWED_ and LEGO_ variables, which are left out.
type Event struct {
	Event      string    `json:"event"`              // pre, deploy, post or fail
	Name       string    `json:"name"`               // the certificate's name in the configuration
	Domains    []string  `json:"domains"`            // the first one is the main name; separated by spaces in variables
	LeftOut    []string  `json:"left_out"`           // optional names that the certificate does not have; separated by spaces in the variable
	Fullchain  string    `json:"fullchain"`          // path of the chain, leaf first
	PrivateKey string    `json:"privkey"`            // path of the private key
	Serial     string    `json:"serial"`             // lower-case hex
	NotAfter   time.Time `json:"not_after,omitzero"` // RFC 3339, UTC
	Changed    bool      `json:"changed"`            // whether this pass changed what is in service; true or false

	// Only of fail, and foreign text: the caller makes it one line.
	Error string `json:"error,omitempty"` // what failed
	Stage string `json:"stage,omitempty"` // the step of the pass that failed
	Hint  string `json:"hint,omitempty"`  // what to do next
}

// Outcome is the result of one file of the directory.
type Outcome struct {
	Hook     string        // its path
	Skipped  string        // why the file is not a hook and was skipped; this is not a failure
	Err      error         // an *Error; nil if the hook ended with status 0
	Duration time.Duration // how long it ran
	Output   string        // standard output and error together, at most 64 KiB of them; foreign text
}

// Run runs all hooks of a directory with the same event, one after another. Each may take at most timeout (60 s if it is zero). If a hook
// fails, the next ones still run. If ctx ends, Run stops the current hook and starts no other. A directory that does not exist has no
// hooks.
//
// The error is an [*Error]: the first failure among the outcomes, or the reason why the directory cannot be used.
func Run(ctx context.Context, dir string, event Event, timeout time.Duration) ([]Outcome, error) {
	if timeout <= 0 {
		timeout = 60 * time.Second
	}
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(event.normalized())
	if err != nil {
		return nil, &Error{Hook: dir, kind: "cannot-start", reason: fmt.Sprintf("describing the event: %v", err)}
	}
	var outcomes []Outcome
	var first error
	for _, entry := range entries {
		if err := ctx.Err(); err != nil && first == nil {
			first = &Error{Hook: dir, kind: "canceled", reason: "not all hooks were run", cause: err}
		}
		if ctx.Err() != nil {
			break
		}
		path := filepath.Join(dir, entry.Name())
		o := Outcome{Hook: path}
		if o.Skipped, o.Err = inspect(path); o.Skipped == "" && o.Err == nil {
			o = execute(ctx, path, event.environment(), input, timeout)
		}
		if first == nil {
			first = o.Err
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, first
}

// list reads the directory in the order of the names, after it has made sure that no other user can put hooks there.
func list(dir string) ([]fs.DirEntry, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		if reason := Unsafe(info); reason != "" {
			return nil, &Error{Hook: dir, kind: "unsafe", reason: "the directory " + reason}
		}
		var entries []fs.DirEntry
		if entries, err = os.ReadDir(dir); err == nil {
			return entries, nil
		}
	}
	return nil, &Error{Hook: dir, kind: "unreadable", reason: fmt.Sprintf("the directory cannot be read: %v", err), cause: err}
}

// leftovers lists the endings of files that editors and package managers leave next to the real ones.
var leftovers = []string{"~", "#", ".bak", ".old", ".orig", ".rej", ".swp", ".save", ".tmp", ".disabled", ".rpmsave", ".rpmnew", ".rpmorig"} //nolint:gochecknoglobals // a constant table

// inspect returns why a file is skipped or why it is refused, or neither if it is a hook.
func inspect(path string) (skipped string, refused error) {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") {
		return "its name begins with a dot", nil
	}
	for _, ending := range leftovers {
		if strings.HasSuffix(name, ending) {
			return "its name ends in " + ending, nil
		}
	}
	if strings.Contains(name, ".dpkg-") || strings.Contains(name, ".ucf-") {
		return "it was left by the package manager", nil
	}
	info, err := os.Stat(path) // follows a symbolic link, because its target would run
	switch {
	case err != nil:
		return "", &Error{Hook: path, kind: "unreadable", reason: err.Error(), cause: err}
	case !info.Mode().IsRegular():
		return "it is not a regular file", nil
	case info.Mode().Perm()&0o111 == 0:
		return "it is not executable", nil
	}
	if reason := Unsafe(info); reason != "" {
		return "", &Error{Hook: path, kind: "unsafe", reason: "the file " + reason}
	}
	return "", nil
}

// Unsafe returns why another user could write to a file or directory, or "" if only root and mxcert's user can.
func Unsafe(info fs.FileInfo) string {
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Sprintf("is writable by its group or by others (mode %04o)", mode)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Sprintf("belongs to user %d, neither root nor this service's user", owner.Uid)
	}
	return ""
}

func (e Event) normalized() Event {
	e.NotAfter = e.NotAfter.UTC()
	if e.Domains == nil {
		e.Domains = []string{}
	}
	if e.LeftOut == nil {
		e.LeftOut = []string{}
	}
	return e
}

// environment returns the variables that a hook gets in addition to PATH and LANG.
func (e Event) environment() []string {
	domains := strings.Join(e.Domains, " ")
	notAfter := ""
	if !e.NotAfter.IsZero() {
		notAfter = e.NotAfter.UTC().Format(time.RFC3339)
	}
	env := []string{
		"MXCERT_EVENT=" + e.Event,
		"MXCERT_NAME=" + e.Name,
		"MXCERT_DOMAINS=" + domains,
		"MXCERT_LEFT_OUT=" + strings.Join(e.LeftOut, " "),
		"MXCERT_FULLCHAIN=" + e.Fullchain,
		"MXCERT_PRIVKEY=" + e.PrivateKey,
		"MXCERT_SERIAL=" + e.Serial,
		"MXCERT_NOT_AFTER=" + notAfter,
		"MXCERT_CHANGED=" + strconv.FormatBool(e.Changed),
	}
	if e.Event == "fail" {
		env = append(env, "MXCERT_ERROR="+e.Error, "MXCERT_STAGE="+e.Stage, "MXCERT_HINT="+e.Hint)
	}
	if len(e.Domains) > 0 {
		env = append(env, "RENEWED_DOMAINS="+domains, "LEGO_CERT_DOMAIN="+e.Domains[0])
	}
	if e.Fullchain != "" && e.PrivateKey != "" {
		env = append(env, "LEGO_CERT_PATH="+e.Fullchain, "LEGO_CERT_KEY_PATH="+e.PrivateKey)
	}
	// A script for certbot reads $RENEWED_LINEAGE/fullchain.pem and privkey.pem. A directory without these two files would break it.
	if dir := filepath.Dir(e.Fullchain); e.Fullchain == filepath.Join(dir, "fullchain.pem") && e.PrivateKey == filepath.Join(dir, "privkey.pem") {
		env = append(env, "RENEWED_LINEAGE="+dir)
	}
	return env
}

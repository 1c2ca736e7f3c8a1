package publish

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
	"mxcert/hooks/run"
	"mxcert/hooks/script"
)

const (
	hookTimeout = 60 * time.Second
	hookGrace   = 3 * time.Second
	// notMine is the exit status of a hook that does not know the zone.
	notMine = 3
)

// hook runs the operator's programs. The package comment has the protocol.
type hook struct {
	directory string
	timeout   time.Duration
}

func newHook(h Hook) (service, error) {
	if !filepath.IsAbs(h.Directory) {
		return nil, configError("the directory of TLSA hooks", fmt.Sprintf("%.200q is no absolute path", h.Directory), "set hooks.directory to an absolute path")
	}
	return hook{filepath.Clean(h.Directory), cmp.Or(max(h.Timeout, 0), hookTimeout)}, nil
}

// String names the directory.
func (s hook) String() string { return "hooks in " + s.directory }

func (s hook) replaces() bool { return false }

type hookRequest struct {
	Action  string   `json:"action"`
	Zone    string   `json:"zone"`
	Name    string   `json:"name"`
	TTL     int64    `json:"ttl"`
	Records []string `json:"records"`
}

type hookAnswer struct {
	Records   *[]string `json:"records"`
	TTL       int64     `json:"ttl"`
	Error     string    `json:"error"`
	Temporary bool      `json:"temporary"`
}

func (s hook) read(ctx context.Context, at dane.Place) (set, error) {
	answer, path, err := s.ask(ctx, at, hookRequest{Action: "list"})
	if err != nil {
		return set{}, err
	}
	if answer.Records == nil {
		return set{}, s.malformed(at, path, "it does not say \"records\"")
	}
	found := set{ttl: time.Duration(answer.TTL) * time.Second}
	for _, text := range *answer.Records {
		r, err := resolve.ParseTLSA(text)
		if err != nil {
			return set{}, s.malformed(at, path, finding.Quote(err.Error(), mostSaid))
		}
		found.records = append(found.records, held{TLSA: r, raw: text})
	}
	if len(found.records) == 0 {
		found.ttl = 0
	}
	return found, nil
}

func (s hook) write(ctx context.Context, at dane.Place, todo change) error {
	for _, r := range []hookRequest{{Action: "remove", Records: texts(todo.remove)}, {Action: "add", Records: texts(todo.add)}} {
		if len(r.Records) == 0 {
			continue
		}
		r.TTL = int64(todo.ttl / time.Second)
		if _, _, err := s.ask(ctx, at, r); err != nil {
			return err
		}
	}
	return nil
}

func (s hook) probe(ctx context.Context, at dane.Place) error {
	_, _, err := s.ask(ctx, at, hookRequest{Action: "probe"})
	return err
}

// ask runs hooks in the order of their names until one takes the zone.
func (s hook) ask(ctx context.Context, at dane.Place, r hookRequest) (answer hookAnswer, path string, err error) {
	files, err := script.Check(s.directory)
	if err != nil {
		return hookAnswer{}, "", err
	}
	r.Zone, r.Name = at.Zone, at.Name
	if r.Records == nil {
		r.Records = []string{}
	}
	input, err := json.Marshal(r)
	if err != nil {
		return hookAnswer{}, "", s.malformed(at, s.directory, err.Error())
	}
	ran := 0
	for _, file := range files {
		switch {
		case file.Err != nil:
			return hookAnswer{}, file.Hook, file.Err // not left out: the next one might do something else
		case file.Skipped != "":
			continue
		}
		ran++
		answer, mine, err := s.run(ctx, at, file.Hook, input)
		if mine || err != nil {
			return answer, file.Hook, err
		}
	}
	e := &Error{service: s.String(), subject: at.Name, kind: "dns-zone", reason: fmt.Sprintf("none of %d hooks takes zone %s", ran, at.Zone), hint: "add a hook for the zone; mxcert-dane(7) has the protocol"}
	if ran == 0 {
		e.kind, e.reason = "dns-config", "there is no executable hook"
	}
	return hookAnswer{}, "", e
}

// run runs one hook and reads its answer.
func (s hook) run(ctx context.Context, at dane.Place, path string, input []byte) (answer hookAnswer, mine bool, err error) {
	output, err := run.Command{Program: path, Dir: "/", Input: input, Timeout: s.timeout, Grace: hookGrace}.Run(ctx)
	if ctx.Err() != nil {
		return hookAnswer{}, true, ctx.Err()
	}
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() == notMine {
		return hookAnswer{}, false, nil
	}
	if err != nil {
		failed, ok := errors.AsType[*run.Error](err)
		e := &Error{
			service: s.String(), subject: at.Name, kind: "dns-publish", temporary: ok && failed.Temporary(),
			reason: path + ": " + err.Error(), hint: "run the hook by hand, with the JSON that mxcert-dane(7) shows on standard input",
		}
		if output.Last != "" {
			e.reason += "; it said " + finding.Quoted(output.Last, mostSaid)
		}
		return hookAnswer{}, true, e
	}
	if output.Cut {
		return hookAnswer{}, true, s.malformed(at, path, "it is longer than 64 KiB")
	}
	if reason := answer.read(output.Stdout); reason != "" {
		return hookAnswer{}, true, s.malformed(at, path, reason)
	}
	if answer.Error != "" {
		return hookAnswer{}, true, &Error{
			service: s.String(), subject: at.Name, kind: "dns-publish", temporary: answer.Temporary,
			reason: path + " says " + finding.Quoted(answer.Error, mostSaid), hint: "the hook's answer says why",
		}
	}
	return answer, true, nil
}

// read reads an answer strictly, and says what is wrong with it.
func (a *hookAnswer) read(text string) (reason string) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	var answer *hookAnswer // null is no object
	switch err := decoder.Decode(&answer); {
	case errors.Is(err, io.EOF):
		return "it is empty"
	case err != nil:
		return finding.Quote(err.Error(), mostSaid)
	case answer == nil:
		return "it is no JSON object"
	case answer.TTL < 0 || answer.TTL > int64(longest/time.Second):
		return fmt.Sprintf("the TTL %d is not possible", answer.TTL)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return "there is text after the JSON object"
	}
	*a = *answer
	return ""
}

func (s hook) malformed(at dane.Place, path, reason string) *Error {
	return &Error{
		service: s.String(), subject: at.Name, kind: "dns-publish",
		reason: fmt.Sprintf("the answer of %s cannot be used: %s", path, reason), hint: "correct the hook; mxcert-dane(7) has the protocol",
	}
}

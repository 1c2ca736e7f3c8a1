package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// hostile is a text from elsewhere: terminal sequences in 7 and 8 bits, writing from the right, other ends of a line, bytes that are no
// UTF-8, and what must stay.
const hostile = "title \x1b]0;owned\x07 red \x1b[31m csi \u009b2J del \x7f back \r\b bidi \u202e\u2066\u200f lines \u2028\u2029\u0085 bytes \xff\x9b tab\tä✓"

// obeyed lists the characters of an output that a terminal may obey.
func obeyed(text string) (list []rune) {
	for _, r := range strings.ToValidUTF8(text, "\x00") {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			list = append(list, r)
		}
	}
	return list
}

func TestConsole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{stdout: &console{out: &out}, stderr: &console{out: &out}}
	if n, err := a.stdout.Write([]byte(hostile)); n != len(hostile) || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	a.paint(a.stderr, hostile, red)
	a.sayFailure(errors.New(hostile))
	a.logger(slog.LevelInfo).Info(hostile, hostile, hostile)
	if list := obeyed(out.String()); len(list) > 0 || strings.Count(out.String(), "tab\tä✓") != 3 {
		t.Errorf("%q in %q", list, out.String())
	}
}

// In JSON the text stays the same, and is escaped.
func TestConsoleJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{stdout: &console{out: &out}}
	text := strings.ToValidUTF8(hostile, "") + "\U000e0041\U000f0000"
	if err := a.printJSON(map[string]string{"message": text}); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["message"] != text {
		t.Errorf("%v, %q", err, got["message"])
	}
	if list := obeyed(out.String()); len(list) > 0 {
		t.Errorf("%q in %q", list, out.String())
	}
}

// brokenPipe fails the first write only.
type brokenPipe struct{ writes int }

func (w *brokenPipe) Write(p []byte) (int, error) {
	if w.writes++; w.writes == 1 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

// A result that nobody received is no success, also if a later part of it was written.
func TestConsoleRemembersAFailedWrite(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	if code := Run(context.Background(), testRelease, []string{"providers", "rfc2136"}, &brokenPipe{}, &stderr); code == int(report.CodeOK) || !strings.Contains(stderr.String(), "broken pipe") {
		t.Errorf("code %d, %s", code, stderr.String())
	}
}

// Whoever can write the state directory cannot command the terminal of root, nor forge a line there.
func TestHostileState(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("renew"); got.code != report.CodeOK {
		t.Fatalf("%+v", got)
	}
	const text = `\u001b]0;owned\u0007\u202e\u009b31m`
	record := h.Path("state", "lineages", "mx", "record.json")
	h.rewrite(record, `"event": "issued"`, `"event": "issued`+text+`\nforged", "message": "`+text+`\nforged"`)
	h.rewrite(record, `"version"`, `"failure": {"stage": "dns`+text+`", "kind": "x", "message": "`+text+`\nforged", "hint": "`+text+`\nforged", "at": "2026-01-01T00:00:00Z"}, "version"`)
	for _, command := range []string{"status", "history", "doctor"} {
		got := h.run(command)
		if list := obeyed(got.stdout + got.stderr); len(list) > 0 || strings.Contains(got.stdout, "\nforged") || !strings.Contains(got.stdout, "owned") {
			t.Errorf("%s prints %q:\n%q\n%s", command, list, got.stdout, got.stderr)
		}
	}
}

// On a terminal only the colours are obeyed that mxcert itself writes.
func TestHostileColours(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, variable := range []string{"NO_COLOR", "TERM"} {
		t.Setenv(variable, "")
	}
	seen := h.terminal("providers", "rfc2137", "-c", "x")
	if !strings.Contains(seen, "\x1b[36m→\x1b[0m") {
		t.Errorf("the arrow is not coloured: %q", seen)
	}
	if seen := h.terminal("check", "-c", "/\x1b[31m\x1b]0;owned\x07"); strings.ContainsAny(seen, "\x1b\x07") || !strings.Contains(seen, "owned") {
		t.Errorf("got %q", seen)
	}
}

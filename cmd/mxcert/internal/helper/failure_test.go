package helper

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// Hooks of root get what the service says about a failure as one line of text that no program takes for something else.
func TestFailureIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ what, text, want string }{
		{"a plain message", "the CA cannot be reached", "the CA cannot be reached"},
		{"two lines", "one\ntwo\n", "one; two"},
		{"an option", "--file=/etc/shadow", "file=/etc/shadow"},
		{"a file for curl", "@/etc/shadow", "/etc/shadow"},
		{"an escape of mail", "~!id", "id"},
		{"options, one after another", "- -@ x", "x"},
		{"an option behind what cannot be printed", "\x1b\x00--x", "x"},
		{"a terminal sequence and a NUL", "a\x1b[31mb\x00c", "a [31mb c"},
		{"the direction of writing", "a\u202eb", "a b"},
		{"not UTF-8", "a\xffb", "a b"},
		{"nothing but options", "---", ""},
		{"a path", "/etc/mxcert: no", "/etc/mxcert: no"},
	} {
		if got := (Failure{Message: tt.text, Hint: tt.text}).bounded(); got.Message != tt.want || got.Hint != tt.want {
			t.Errorf("%s: %+v, want %q", tt.what, got, tt.want)
		}
	}
	long := Failure{Message: strings.Repeat("é", 5000), Hint: strings.Repeat("x", 1<<20), Stage: strings.Repeat("a", 100)}.bounded()
	if len(long.Message) > mostSaid+4 || len(long.Hint) > mostSaid+4 || !utf8.ValidString(long.Message) || long.Stage != "" {
		t.Errorf("%d, %d bytes, stage %q", len(long.Message), len(long.Hint), long.Stage)
	}
	for _, stage := range []string{"order", "verify", ""} {
		if got := (Failure{Stage: stage}).bounded(); got.Stage != stage {
			t.Errorf("%q became %q", stage, got.Stage)
		}
	}
	for _, stage := range []string{"-x", "a b", "$(id)", "a\n", "Ä"} {
		if got := (Failure{Stage: stage}).bounded(); got.Stage != "" {
			t.Errorf("%q became %q", stage, got.Stage)
		}
	}
}

// The hook helper passes the three texts on to the hooks of fail alone, and bounds them itself.
func TestHookHelperTellsOfFailures(t *testing.T) {
	h := newHost(t)
	for _, event := range []string{"pre", "fail"} {
		h.check(os.MkdirAll(h.path("hooks/"+event+".d"), 0o755))
		h.hook(event+".d/note", "#!/bin/sh\nprintf '%s|%s|%s\\n' \"$MXCERT_STAGE\" \"$MXCERT_ERROR\" \"$MXCERT_HINT\" >> "+h.path("noted")+"\ncat >> "+h.path("noted")+"\n")
	}
	if answer := h.askHook(map[string]any{"event": "fail", "name": "mx", "failure": map[string]any{"stage": "$(id)", "error": "-f\nb\u001b", "hint": "@x"}}); answer.Error != nil {
		t.Fatal(answer.Error)
	}
	noted, _ := os.ReadFile(h.path("noted"))
	if text := string(noted); !strings.HasPrefix(text, "|f; b|x\n") || !strings.Contains(text, `"error":"f; b"`) || !strings.Contains(text, `"hint":"x"`) {
		t.Errorf("the hook got %s", text)
	}
	h.check(os.Remove(h.path("noted")))
	for _, order := range []map[string]any{
		{"event": "pre", "name": "mx", "failure": map[string]any{"stage": "order", "error": "x", "hint": ""}},
		{"event": "fail", "name": "mx", "failure": map[string]any{"stage": "order", "error": "x", "hint": "", "serial": "1"}},
	} {
		if answer := h.askHook(order); answer.Error == nil {
			t.Errorf("%v was obeyed", order)
		}
	}
	if _, err := os.Stat(h.path("noted")); err == nil {
		t.Error("a hook ran")
	}
	_, err := h.client.RunHooks(t.Context(), h.want(), Event{Name: "fail", Failure: NewFailure(errors.New("the CA is away"))})
	if noted, _ := os.ReadFile(h.path("noted")); err != nil || !strings.HasPrefix(string(noted), "|the CA is away|\n") {
		t.Errorf("%v: %s", err, noted)
	}
}

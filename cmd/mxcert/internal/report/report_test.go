package report_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

func TestSumCodes(t *testing.T) {
	t.Parallel()
	type codes = []report.Code
	for _, tt := range []struct {
		codes codes
		want  report.Code
	}{
		{nil, report.CodeOK},
		{codes{report.CodeOK}, report.CodeOK},
		{codes{report.CodeOK, report.CodeOK}, report.CodeOK},
		{codes{report.CodeTemporary}, report.CodeTemporary},
		{codes{report.CodeNotInService, report.CodeNotInService}, report.CodeNotInService},
		{codes{report.CodeOK, report.CodeFailed}, report.CodeSome},
		{codes{report.CodeTemporary, report.CodeOK, report.CodeNotInService}, report.CodeSome},
		{codes{report.CodeTemporary, report.CodePermission}, report.CodePermission},
		{codes{report.CodeNotInService, report.CodePermission}, report.CodeNotInService},
		{codes{report.CodeFailed, report.CodeNotInService, report.CodeTemporary}, report.CodeFailed},
		{codes{report.CodeTemporary, report.CodeFailed}, report.CodeFailed},
		{codes{report.CodeConfig}, report.CodeConfig}, // a code without a rank of its own is a failure all the same
		{codes{report.CodeTemporary, report.CodeConfig}, report.CodeConfig},
	} {
		if got := report.SumCodes(tt.codes); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.codes, got, tt.want)
		}
		r := &report.Report{}
		for _, code := range tt.codes {
			r.Certificates = append(r.Certificates, report.Certificate{Code: code})
		}
		if got := r.ExitCode(); got != tt.want {
			t.Errorf("a report of %v: %d, want %d", tt.codes, got, tt.want)
		}
	}
}

// fault answers all questions that an error of a room may answer.
type fault struct {
	stage, kind string
	temporary   bool
}

func (fault) Error() string     { return "it failed" }
func (f fault) Stage() string   { return f.stage }
func (f fault) Kind() string    { return f.kind }
func (f fault) Hint() string    { return "do something" }
func (f fault) Temporary() bool { return f.temporary }

// lacking is an error that names records to publish.
type lacking struct{}

func (*lacking) Error() string     { return "no" }
func (*lacking) Records() []string { return []string{"_25._tcp.mx.example.org. IN TLSA 3 1 1 00"} }

func TestErrorInWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what string
		err  error
		want report.Error
		code report.Code
	}{
		{"a plain error", errors.New("boom"), report.Error{Kind: "error", Message: "boom"}, report.CodeFailed},
		{"the room's own stage", fault{"dns", "tsig", false}, report.Error{Stage: "dns", Kind: "tsig", Message: "it failed", Hint: "do something"}, report.CodeFailed},
		{"the marked stage is stronger", report.At("deploy", fault{"dns", "tsig", true}), report.Error{Stage: "deploy", Kind: "tsig", Message: "it failed", Hint: "do something"}, report.CodeTemporary},
		{"the first mark stays", report.At("verify", report.At("reload", errors.New("x"))), report.Error{Stage: "reload", Kind: "error", Message: "x"}, report.CodeFailed},
		{"the same line twice", errors.Join(errors.New("a"), errors.New("b"), errors.New("a")), report.Error{Kind: "error", Message: "a\nb"}, report.CodeFailed},
		{"a code of its own, wrapped", fmt.Errorf("check: %w", &report.Exit{Code: report.CodeFault, Err: errors.New("x")}), report.Error{Kind: "error", Message: "check: x"}, report.CodeFault},
		{"bad configuration", fault{"configuration", report.KindConfiguration, false}, report.Error{Stage: "configuration", Kind: "configuration", Message: "it failed", Hint: "do something"}, report.CodeConfig},
		{"no permission", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}, report.Error{Kind: "error", Message: "open /x: permission denied"}, report.CodePermission},
		{"records to publish", report.At("deploy", &lacking{}), report.Error{Stage: "deploy", Kind: "error", Message: "no", Publish: []string{"_25._tcp.mx.example.org. IN TLSA 3 1 1 00"}}, report.CodeFailed},
		{"no permission by its kind", fault{"deploy", "permission", false}, report.Error{Stage: "deploy", Kind: "permission", Message: "it failed", Hint: "do something"}, report.CodePermission},
	} {
		if got := *report.NewError(tt.err); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
		if got := report.CodeOf(tt.err); got != tt.code {
			t.Errorf("%s: exit code %d, want %d", tt.what, got, tt.code)
		}
	}
	if report.At("deploy", nil) != nil || report.CodeOf(nil) != report.CodeOK || report.StageOf(nil) != "" {
		t.Error("no error is made into one")
	}
}

// How the time of a command ended is said with the step at which it ended.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for how, cause := range map[string]error{"interrupted": context.Canceled, "timeout": context.DeadlineExceeded} {
		e := report.NewError(report.At("order", fmt.Errorf("the CA: %w", cause)))
		if e.Kind != how || e.Stage != "order" || !strings.HasPrefix(e.Message, how+` at the step "order": the CA`) || e.Hint == "" {
			t.Errorf("%s: %+v", how, e)
		}
		if !report.IsTemporary(cause) {
			t.Errorf("%s is not temporary", how)
		}
	}
}

// The names in the document are a contract.
func TestNamesOfFields(t *testing.T) {
	t.Parallel()
	r := report.Sum([]report.Certificate{report.New("mx", []string{"mx.example.org"}), {Name: "b", Changed: true, Code: report.CodeFailed}})
	if !r.Changed || r.ExitCode() != report.CodeSome {
		t.Errorf("changed %v, exit code %d", r.Changed, r.ExitCode())
	}
	text, err := json.Marshal(r.Certificates[0])
	want := `{"name":"mx","names":["mx.example.org"],"reasons":{},"left_out":[],"keys":[],"stage":"","changed":false,"next_renewal":null,"endpoints":[],"error":null,"files":[],"warnings":[],"exit_code":0}`
	if err != nil || string(text) != want {
		t.Errorf("JSON is\n%s (%v), want\n%s", text, err, want)
	}
}

func TestUntil(t *testing.T) {
	t.Parallel()
	for want, off := range map[string]time.Duration{
		"in 59 days": 60*24*time.Hour - time.Minute, "in 47 hours": 48*time.Hour - time.Minute, "in 119 minutes": 2*time.Hour - time.Second,
		"in 119 seconds": 2*time.Minute - 100*time.Millisecond, "2 days ago": -50 * time.Hour, "in 0 seconds": 100 * time.Millisecond,
	} {
		if got := report.Until(time.Now().Add(off)); got != want {
			t.Errorf("%s: %q, want %q", off, got, want)
		}
	}
}

// Another user may have written what says that a daemon runs.
func TestBadSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	for want, d := range map[string]report.Daemon{"an unknown time": {}, "2026-01-02 03:04 UTC": {ConfigErrorAt: &at}} {
		if got := d.BadSince(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

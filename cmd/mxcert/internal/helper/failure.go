package helper

import (
	"strings"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// Failure says to the hooks of fail what failed. It is text that the service has written, with parts from CAs and providers: the hook
// helper, which runs hooks as root, does not believe it, but only bounds it. See [Failure.bounded].
type Failure struct {
	Stage   string `json:"stage"` // the step of the pass
	Message string `json:"error"`
	Hint    string `json:"hint"` // what to do; "" if that is not known
}

// NewFailure describes an error to hooks.
func NewFailure(err error) *Failure {
	e := report.NewError(err)
	f := Failure{Stage: e.Stage, Message: e.Message, Hint: e.Hint}.bounded()
	return &f
}

const (
	// mostSaid limits a message or a hint for hooks, in bytes. A message may have the URL at which an account is unpaused.
	mostSaid = 2000
	// mostStage limits the name of a stage, which has only lower-case letters.
	mostStage = 20
	// options are the characters with which common programs recognise an argument that is not a text: an option, a file to read.
	options = "-+@~<>|&! "
)

// bounded returns the texts as hooks get them: one line of printable characters, of limited length, that no program takes for an option
// or the name of a file. They are still foreign text, which a hook must not let a shell evaluate.
func (f Failure) bounded() Failure {
	out := Failure{Message: said(f.Message), Hint: said(f.Hint)}
	if len(f.Stage) <= mostStage && strings.Trim(f.Stage, "abcdefghijklmnopqrstuvwxyz") == "" {
		out.Stage = f.Stage
	}
	return out
}

func said(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	return strings.TrimLeft(finding.Quote(text, mostSaid), options)
}

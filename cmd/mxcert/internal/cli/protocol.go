package cli

import (
	"io/fs"
	"time"

	"mxcert/deploy"
	"mxcert/hooks/script"
)

// What the service and the two programs of root say to each other, as messages of wire. The service asks, the helper
// answers. helper.go is the helper's side, remote.go the service's.

// helperKind is the name of a helper: of its units mxcert-KIND.socket and mxcert-KIND@.service, and of its socket.
type helperKind string

const (
	installHelper helperKind = "install" // writes files; a connection is a conversation about one certificate
	hookHelper    helperKind = "hook"    // runs hooks; a connection is one event
)

// installVerb is what the install helper can do.
type installVerb string

const (
	verbCheck  installVerb = "check"  // could the files be written?
	verbPlan   installVerb = "plan"   // what would change?
	verbApply  installVerb = "apply"  // what was planned
	verbRevert installVerb = "revert" // what was applied
	verbTouch  installVerb = "touch"  // make the server look again
)

// installOrder goes to the install helper.
type installOrder struct {
	Verb    installVerb    `json:"verb"`
	Name    string         `json:"name"`              // of the certificate
	Bundles []installFiles `json:"bundles,omitempty"` // plan: one for each key type, empty if there is none of that type
	Sound   bool           `json:"sound,omitempty"`   // check: is the configuration of the mail server in order, too?
}

// installFiles is a certificate and its key, PEM.
type installFiles struct {
	Chain string `json:"chain"`
	Key   string `json:"key"`
}

// installAnswer comes back.
type installAnswer struct {
	Changes    []installChange `json:"changes,omitempty"`
	Content    bool            `json:"content,omitempty"`
	Shortens   *helperError    `json:"shortens,omitempty"`   // plan: the live certificate that is valid for longer
	Revertible *helperError    `json:"revertible,omitempty"` // plan: why there is nothing worth going back to
	Kept       []string        `json:"kept,omitempty"`       // where files that were replaced are kept
	Notes      []string        `json:"notes,omitempty"`
	Error      *helperError    `json:"error,omitempty"`
}

// installChange is a deploy.Change with its mode.
type installChange struct {
	deploy.Change
	FileMode fs.FileMode `json:"mode"`
}

// hookOrder goes to the hook helper.
type hookOrder struct {
	Event script.Event `json:"event"`
}

// hookAnswer comes back.
type hookAnswer struct {
	Outcomes []hookOutcome `json:"outcomes"`
	Error    *helperError  `json:"error,omitempty"`
}

// hookOutcome is what a report says of one hook.
type hookOutcome struct {
	Hook     string        `json:"hook"`
	Skipped  string        `json:"skipped,omitempty"`
	Failed   bool          `json:"failed,omitempty"`
	Duration time.Duration `json:"duration"`
}

// refusal is the answer of any helper that does not even look at the order.
type refusal struct {
	Error *helperError `json:"error"`
}

// helperError is an error as it travels from a helper, or one of the connection to it.
type helperError struct {
	Message  string `json:"message"`
	KindText string `json:"kind"`
	NextStep string `json:"hint"`
}

// Error is the helper's message.
func (e *helperError) Error() string { return e.Message }

// Kind is the helper's word.
func (e *helperError) Kind() string { return e.KindText }

// Hint says what to do.
func (e *helperError) Hint() string { return e.NextStep }

// toHelperError makes an error fit for a message; nil stays nil.
func toHelperError(err error) *helperError {
	if err == nil {
		return nil
	}
	return &helperError{Message: err.Error(), KindText: kindOf(err), NextStep: hintOf(err)}
}

// orNil keeps a nil *helperError from becoming an error.
func (e *helperError) orNil() error {
	if e == nil {
		return nil
	}
	return e
}

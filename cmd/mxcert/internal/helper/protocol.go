package helper

import (
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy"
	"mxcert/hooks/notify"
)

// The messages between the service and the two helpers, which package wire carries. The service asks, the helper answers.

// Kind is the name of a helper. The names of its units (mxcert-KIND.socket and mxcert-KIND@.service) and of its socket contain
// it.
type Kind string

// The helpers.
const (
	Install Kind = "install" // writes files; one connection per certificate
	Hook    Kind = "hook"    // runs hooks; one connection per event
)

// installVerb is one of the orders that the install helper knows.
type installVerb string

const (
	verbCheck    installVerb = "check"     // can the files be written?
	verbPlan     installVerb = "plan"      // what would change?
	verbApply    installVerb = "apply"     // apply the plan
	verbApplyNew installVerb = "apply-new" // write what replaces nothing
	verbRevert   installVerb = "revert"    // revert the plan
	verbUndo     installVerb = "undo"      // revert the plan, and remove what it made: the service's part of the deployment has failed
	verbTouch    installVerb = "touch"     // make the server look at its files again
	verbStapling installVerb = "stapling"  // what is tls_ocsp_file of Exim?
)

// installOrder is an order for the install helper.
type installOrder struct {
	Verb    installVerb    `json:"verb"`
	Name    string         `json:"name"`              // of the certificate
	Bundles []installFiles `json:"bundles,omitempty"` // plan: one for each key type, empty if there is no certificate of that type
	Sound   bool           `json:"sound,omitempty"`   // check: is the configuration of the mail server valid, too?
	Kinds   []string       `json:"kinds,omitempty"`   // check: only the places of these kinds; all if empty
}

// installFiles is a certificate and its key, both PEM.
type installFiles struct {
	Chain  string `json:"chain"`
	Key    string `json:"key"`
	Staple []byte `json:"ocsp,omitempty"` // plan: the OCSP response of the certificate
}

// none reports whether an order has no files.
func (f installFiles) none() bool { return f.Chain == "" && f.Key == "" && len(f.Staple) == 0 }

func pemOf(b *bundle.Bundle) installFiles {
	return installFiles{Chain: string(b.FullchainPEM()), Key: string(b.KeyPEM())}
}

// installAnswer is the answer to an installOrder.
type installAnswer struct {
	Plan    deploy.Summary `json:"plan,omitzero"`
	Left    []string       `json:"left,omitempty"`    // check and plan: paths that the helper leaves to the service, whose user can write there
	Kept    []string       `json:"kept,omitempty"`    // where replaced files are kept
	Written []string       `json:"written,omitempty"` // apply-new: the paths
	Notes   []string       `json:"notes,omitempty"`
	Setting string         `json:"setting,omitempty"` // stapling: the answer
	Error   *Error         `json:"error,omitempty"`
}

// hookOrder is an order for the hook helper. The configuration and the bundle say everything else that is a fact.
type hookOrder struct {
	Event   string       `json:"event"`             // pre, deploy, post or fail; or notify
	Name    string       `json:"name"`              // of the certificate; of notify, the name of the channel
	Changed bool         `json:"changed"`           // whether this pass changed what is in service
	Bundle  installFiles `json:"bundle"`            // empty before the first certificate
	Failure *Failure     `json:"failure,omitempty"` // of fail only

	Message *notify.Message `json:"message,omitempty"` // of notify only
}

// hookAnswer is the answer to a hookOrder.
type hookAnswer struct {
	Outcomes  []Outcome `json:"outcomes"`
	Error     *Error    `json:"error,omitempty"`
	Temporary bool      `json:"temporary,omitempty"` // of notify: the same message may be sent later
}

// refusal is the answer of any helper that refuses before it has looked at the order.
type refusal struct {
	Error *Error `json:"error"`
}

// Outcome is the result of one hook.
type Outcome struct {
	Hook     string        `json:"hook"`
	Skipped  string        `json:"skipped,omitempty"`
	Failed   bool          `json:"failed,omitempty"`
	Duration time.Duration `json:"duration"`
}

// Error is an error that a helper has sent, or an error of the connection to it.
type Error struct {
	Message  string `json:"message"`
	KindText string `json:"kind"`
	NextStep string `json:"hint"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Kind returns the stable word for the error.
func (e *Error) Kind() string { return e.KindText }

// Hint says what to do.
func (e *Error) Hint() string { return e.NextStep }

// newError turns an error into one that can be sent; nil stays nil.
func newError(err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{Message: err.Error(), KindText: report.KindOf(err), NextStep: report.HintOf(err)}
}

// orNil keeps a nil *Error from becoming a non-nil error.
func (e *Error) orNil() error {
	if e == nil {
		return nil
	}
	return e
}

//go:build nofleet

package engine

import (
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/wanted"
)

func built() error { return missing{} }

func open(*wanted.Fleet, string) (state.Shared, error) { return nil, missing{} }

// missing is the error about a part that was left out.
type missing struct{}

func (missing) Error() string {
	return "this mxcert was built without fleets (build tag nofleet), but the configuration has the section fleet"
}

// Hint returns the next step.
func (missing) Hint() string {
	return "install the package of mxcert as it is published, or remove the section"
}

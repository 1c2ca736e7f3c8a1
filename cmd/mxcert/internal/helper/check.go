package helper

import (
	"context"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// checkHere finds out whether this process can write the files, and whether they are those that the mail servers read; sound
// asks whether the servers' configuration is in order, too. Notes are for the operator.
func checkHere(ctx context.Context, want wanted.Certificate, known Known, sound bool) (notes []string, err error) {
	if err := deploy.Check(want.Targets(), known); err != nil {
		return nil, err
	}
	return discover.Inspect(ctx, want.Targets(), want.ClientNames(), known, sound)
}

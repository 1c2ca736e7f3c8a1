package helper

import (
	"context"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// checkHere finds out whether this process can write the files, and whether the mail servers read these files. If sound is set, it also
// asks whether the servers' configuration is valid. Notes are for the operator.
func checkHere(ctx context.Context, want wanted.Certificate, known Known, sound bool) (notes []string, err error) {
	if err := deploy.Check(want.Targets(), known); err != nil {
		return nil, err
	}
	return discover.Inspect(ctx, want.Targets(), want.ClientNames(), known, sound)
}

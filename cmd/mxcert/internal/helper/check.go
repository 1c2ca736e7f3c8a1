package helper

import (
	"context"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// checkHere checks that this process can write the files, and that the mail servers read them. If sound is true, it also asks
// whether the servers' configuration is in order. Notes are for the operator.
func checkHere(ctx context.Context, want wanted.Certificate, known Known, sound bool) (notes []string, err error) {
	if err := deploy.Check(want.Targets(), known); err != nil {
		return nil, err
	}
	return discover.Inspect(ctx, discover.Wanted{Targets: want.Targets(), Names: want.ClientNames(), Endpoints: want.Endpoints()}, known, sound)
}

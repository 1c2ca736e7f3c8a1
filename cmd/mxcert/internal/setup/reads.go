package setup

import (
	"context"

	"mxcert/deploy/discover"
)

// EximReads returns the two paths from which the Exim on this host reads its certificate and its key. They are "" if there is no Exim, or if
// its settings are not one plain path each.
func EximReads(ctx context.Context) (certificate, key string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	exim, err := discover.Exim(ctx)
	if err != nil {
		return "", ""
	}
	return exim.Pair.Certificate, exim.Pair.Key
}

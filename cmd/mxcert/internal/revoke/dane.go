package revoke

import (
	"context"
	"fmt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// mayLose returns an error if a compromised key is in service and no other could be served yet: its revocation would leave the host with a
// revoked certificate, or with a key that senders with DANE do not know.
func (r *Revocation) mayLose(ctx context.Context, want wanted.Certificate) error {
	for _, g := range r.Targets {
		current, err := r.lineage.Generation(r.record.Slot(g.Key).Current)
		if err != nil || current.SPKI != g.SPKI {
			continue // another key has taken its place
		}
		if err := r.runner.MayChangeKey(ctx, want, g.Key); err != nil {
			return &report.Exit{Code: report.CodeNotInService, Err: report.At("deploy", &irreplaceable{name: want.Name, cause: err})}
		}
	}
	return nil
}

// irreplaceable says that a compromised key cannot be replaced yet.
type irreplaceable struct {
	name  string
	cause error
}

func (e *irreplaceable) Error() string {
	return fmt.Sprintf("the key is in service, and the key that would replace it cannot be served yet: %v", e.cause)
}

// Unwrap returns why the key cannot be replaced.
func (e *irreplaceable) Unwrap() error { return e.cause }

// Kind is that of the cause: dane, or dane-unknown.
func (e *irreplaceable) Kind() string { return report.KindOf(e.cause) }

// Hint says how to change the key first.
func (e *irreplaceable) Hint() string {
	return fmt.Sprintf("mxcert tlsa roll %s --emergency changes the key, removes its record and then revokes the certificate; --ignore-dane revokes it at once, and senders defer mail",
		e.name)
}

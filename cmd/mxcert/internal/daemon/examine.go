package daemon

import (
	"context"
	"errors"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// Seen is what a daemon finds with the secrets that it has. The secrets themselves stay with the daemon: systemd may have handed them to
// it alone.
type Seen struct {
	Secrets   []finding.Finding            `json:"secrets"`   // those that it cannot read
	Providers map[string][]finding.Finding `json:"providers"` // the test of the DNS provider of each certificate
}

// Examine asks a running daemon what it finds with its secrets about the certificates in names, or about all. release is the version
// that the daemon must have, and fingerprint the configuration that it must work with. If online is set, the DNS providers create and remove
// records. The error is ErrNone if no such daemon runs.
func Examine(ctx context.Context, store *state.Book, release, fingerprint string, names []string, online bool) (*Seen, error) {
	if running := Running(store); running == nil || running.Version != release {
		return nil, ErrNone // a daemon of another version may not know what is asked
	}
	last, err := ask(ctx, store, Order{Names: names, Look: true, Examine: true, Online: online, Fingerprint: fingerprint}, func(string, string, string) {})
	if err == nil && last.Seen == nil {
		err = errors.New("the daemon does not say what it finds with its secrets")
	}
	return last.Seen, err
}

// examine tries the secrets, and the DNS providers with them. It reads the files again, because they say where each secret stands.
func (d *Daemon) examine(ctx context.Context, wants []wanted.Certificate, online bool) *Seen {
	seen := &Seen{Secrets: []finding.Finding{}, Providers: map[string][]finding.Finding{}}
	if config, err := configs.Load(d.ConfigFile); err == nil {
		_, secrets := wanted.Inspect(config)
		seen.Secrets = append(seen.Secrets, secrets...)
	}
	if d.Provider == nil {
		return seen
	}
	found := together(wants, func(want wanted.Certificate) []finding.Finding { return d.Provider(ctx, want, online) })
	for i, want := range wants {
		seen.Providers[want.Name] = found[i]
	}
	return seen
}

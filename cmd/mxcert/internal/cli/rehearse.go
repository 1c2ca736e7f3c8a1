package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"mxcert/acme/authority"
	"mxcert/acme/state"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

// stagingOf finds the staging service of a CA; the test has one for the lab's.
var stagingOf = authority.Staging //nolint:gochecknoglobals // a constant but for the test

// rehearse orders the certificates at the CA's staging service with a state directory that is thrown away: accounts,
// certificates and files stay as they are.
func (a *app) rehearse(ctx context.Context, config *configs.Config, names []string) error {
	certificates, err := chosen(config, names)
	if err != nil {
		return err
	}
	directory, ok := stagingOf(config.ACME.Directories[0])
	if !ok {
		return usage("--staging: no staging service of %s is known; to rehearse, set acme.directory to one (letsencrypt-staging)", authority.Name(config.ACME.Directories[0]))
	}
	temporary, err := os.MkdirTemp("", "mxcert-staging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	rehearsal := *config
	rehearsal.State, rehearsal.ACME.Directories, rehearsal.ACME.RootsFile = temporary, []string{directory}, ""
	w, err := newWorld(&rehearsal, a.version, false)
	if err != nil {
		return err
	}
	defer w.close()
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	narrator := a.narrate()
	var problems []error
	for _, c := range certificates {
		p := &pass{world: w, certificate: c, say: narrator.speak(c.Name), lineage: w.store.Lineage(c.Name)}
		problems = append(problems, p.rehearse(ctx))
	}
	narrator.end()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return a.sayRehearsed(authority.Name(directory), certificates)
}

// rehearsalReport is `renew --staging --json` of a success.
type rehearsalReport struct {
	report.Report
	Rehearsed []string `json:"rehearsed"` // names of certificates
	CA        string   `json:"ca"`
}

func (a *app) sayRehearsed(ca string, certificates []configs.Certificate) error {
	if a.json {
		r := rehearsalReport{Report: report.Report{Certificates: []report.Certificate{}}, Rehearsed: []string{}, CA: ca}
		for _, c := range certificates {
			r.Rehearsed = append(r.Rehearsed, c.Name)
		}
		return a.printJSON(r)
	}
	if !a.quiet {
		fmt.Fprintf(a.stdout, "rehearsed at %s: %d %s would be issued; nothing was stored or deployed\n", ca, len(certificates), report.Plural(len(certificates), "certificate"))
	}
	return nil
}

// rehearse orders the first key type only: that the names can be proven does not depend on the key.
func (p *pass) rehearse(ctx context.Context) error {
	unlock, err := p.lineage.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	p.record = state.Record{}
	if err := p.readBundles(); err != nil {
		return err
	}
	return p.order(ctx, 0, p.keys()[0], "rehearsal")
}

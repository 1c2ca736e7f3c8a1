package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/configs"
	"mxcert/deploy"

	"mxcert/cmd/mxcert/internal/report"
)

// statusPatience bounds the handshakes of status.
const statusPatience = 3 * time.Second

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME…]", Short: "What is wanted, issued, deployed and served, and the next renewal", Args: cobra.ArbitraryArgs,
		Long: `Looks at the stored certificates, the files and the endpoints, and changes nothing. The exit code is that of a renew
which finds the same: 0 when all is served, 5 when something issued is not in service, 75 when nothing is issued yet.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.status(cmd.Context(), names) },
	}
}

func (a *app) status(ctx context.Context, names []string) error {
	r := &report.Report{Certificates: []report.Certificate{}}
	config, configErr := a.load()
	if configErr != nil {
		if config = a.runningConfig(); config == nil {
			return configErr
		}
		r.ConfigError = configErr.Error()
	}
	certificates, err := chosen(config, names)
	if err != nil {
		return err
	}
	store, err := viewStore(config.State)
	if err != nil {
		return err
	}
	r.Daemon = readDaemon(store)
	mark, err := fingerprint(config)
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	r.Certificates = make([]report.Certificate, len(certificates))
	var wait sync.WaitGroup
	for i, c := range certificates {
		p := &pass{world: &world{config: config, fingerprint: mark, store: store}, certificate: c, options: passOptions{dryRun: true}, say: func(string, string) {}}
		wait.Go(func() { r.Certificates[i] = p.look(ctx) })
	}
	wait.Wait()
	if configErr == nil {
		a.printDaemon(r.Daemon)
		return a.result(r)
	}
	// The broken file is the first thing to say; what is in force comes after it.
	fmt.Fprintln(a.stderr, a.errorText(configErr))
	a.printDaemon(r.Daemon)
	err = a.result(r)
	if _, said := errors.AsType[*report.Exit](err); err != nil && !said {
		return err
	}
	return &report.Exit{Code: report.CodeConfig}
}

// look is a pass that only looks.
func (p *pass) look(ctx context.Context) report.Certificate {
	p.result = report.Certificate{Name: p.certificate.Name, Names: p.certificate.Domains, Endpoints: []report.Endpoint{}, Keys: []report.Key{}, Warnings: []string{}, Files: []string{}}
	p.lineage = p.store.Lineage(p.certificate.Name)
	if err := p.load(ctx); err != nil {
		return p.fail(report.At("state", err))
	}
	p.describe()
	if !p.haveBundle() {
		p.result.Stage, p.result.Code = report.Waiting, report.CodeTemporary
		p.result.Warnings = append(p.result.Warnings, "nothing is issued yet: mxcert renew orders it, or the daemon")
		p.lastFailure()
		return p.result
	}
	p.result.Stage = report.Issued
	plan, err := deploy.Make(p.certificate.Name, p.jobs())
	switch {
	case err != nil:
		p.result.Error, p.result.Code = report.NewError(report.At("deploy", err)), report.CodeNotInService
	case !plan.Empty():
		for _, change := range plan.Changes() {
			p.result.Warnings = append(p.result.Warnings, fmt.Sprintf("%s: %s", change.Path, change.Why))
		}
		p.result.Code = report.CodeNotInService
		if held := p.contention(changesText(plan.Changes())); held != nil && p.wasServed() {
			p.result.Error = report.NewError(report.At("deploy", held))
		}
	default:
		p.result.Stage = report.Deployed
	}
	if err := p.awaitServed(ctx, statusPatience); err != nil {
		p.result.Code = report.CodeNotInService
		if p.result.Error == nil {
			p.result.Error = report.NewError(report.At("verify", err))
		}
	} else if len(p.result.Endpoints) > 0 {
		p.result.Stage = report.Served
	}
	p.lastFailure()
	if p.record.HooksDue && p.result.Code == report.CodeOK {
		p.result.Error = report.NewError(report.At("hook", errors.New("the hooks of the certificate in service have not succeeded yet; they run again at the next pass")))
		p.result.Code = report.CodeFailed
	}
	return p.result
}

// lastFailure shows why the last pass failed, where it did.
func (p *pass) lastFailure() {
	f := p.record.Failure
	if f == nil {
		return
	}
	if p.result.Error == nil || p.result.Error.Kind != kindDrift { // that is how it is now, and newer
		p.result.Error = &report.Error{Stage: f.Stage, Kind: f.Kind, Message: f.Message, Hint: f.Hint}
	}
	p.result.Warnings = append(p.result.Warnings, fmt.Sprintf("the last pass failed at %s (%d in a row); the daemon tries again at %s",
		f.At.Format(time.RFC3339), f.Count, f.NotBefore.Format(time.RFC3339)))
	switch {
	case p.result.Code != report.CodeOK:
	case f.Stage == "deploy" || f.Stage == "reload" || f.Stage == "verify":
		p.result.Code = report.CodeNotInService
	default:
		p.result.Code = report.CodeFailed
	}
}

// stateKey finds the state directory in a configuration that cannot be read as a whole.
var stateKey = regexp.MustCompile(`(?m)^state:\s*"?(/[^"\s#]+)`)

// runningConfig is the configuration that the daemon goes on with while the file is broken; nil where there is none.
func (a *app) runningConfig() *configs.Config {
	dir := "/var/lib/mxcert"
	if text, err := os.ReadFile(a.configFile); err == nil {
		if m := stateKey.FindSubmatch(text); m != nil {
			dir = string(m[1])
		}
	}
	config, err := configs.Load(state.New(disk.At(dir)).RunningConfig())
	if err != nil {
		return nil
	}
	return config
}

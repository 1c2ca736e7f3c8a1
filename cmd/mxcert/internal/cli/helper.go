package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
	"mxcert/deploy"
	"mxcert/hooks/script"
	"mxcert/hooks/unit"
)

// The service has no privileges. Two things need some: writing to paths that belong to root, and the operator's hooks. Each
// is done by a program of its own, which systemd starts as root for one connection to its socket (mxcert-install.socket,
// mxcert-hook.socket; Accept=yes in systemd.socket(5)) and hands that connection over as standard input.
//
// A helper does not trust the service: the configuration, which only root may write, says what exists; a certificate and
// key are proven here again and must be for its names; paths, owner and mode come from the configuration; hooks are those of
// the configured directory. So an attacker who takes over the service can put a certificate that he has in place, and no more.

// firstOrder is how long a helper waits for its first order. Between orders it waits as long as the connection is open.
const firstOrder = 20 * time.Second

// helperCommand is what the helpers' units run. It is not for people.
func (a *app) helperCommand() *cobra.Command {
	return &cobra.Command{
		Use: "helper install|hook", Short: "What mxcert-install@.service and mxcert-hook@.service run", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := helperKind(args[0])
			if kind != installHelper && kind != hookHelper {
				return usage("the helpers are install and hook, not %q", args[0])
			}
			conn, err := wire.Inherit(os.Stdin)
			if err != nil {
				return usage("systemd runs this command, for a connection to mxcert-%s.socket: %v", kind, err)
			}
			defer conn.Close()
			return a.helper(cmd.Context(), kind, conn)
		},
	}
}

// helper does what the service at the other end of the connection orders, until it hangs up.
func (a *app) helper(ctx context.Context, kind helperKind, conn *wire.Conn) error {
	if err := conn.Admit(0, os.Geteuid(), serviceUID()); err != nil {
		err = &helperError{Message: "only root and the user " + unit.ServiceUser + " may give orders: " + err.Error(), KindText: "permission",
			NextStep: "run mxcert as root, or as the user " + unit.ServiceUser}
		return refuse(ctx, conn, err)
	}
	config, err := a.trustedConfig()
	if err != nil {
		return refuse(ctx, conn, err)
	}
	if kind == hookHelper {
		return hooks(ctx, config, conn)
	}
	return install(ctx, config, conn)
}

// refuse answers the first order, whatever it is, with the error, and returns it.
func refuse(ctx context.Context, conn *wire.Conn, why error) error {
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	var order any
	if err := conn.Read(first, &order); err == nil {
		_ = answer(ctx, conn, refusal{Error: toHelperError(why)}) // why matters more than whether the service has read it
	}
	return why
}

// answer sends what became of an order, also when systemd has begun to stop this helper meanwhile.
func answer(ctx context.Context, conn *wire.Conn, v any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), firstOrder)
	defer cancel()
	return conn.Write(ctx, v)
}

// serviceUID is the service's user, -1 if this host has none.
func serviceUID() int {
	u, err := user.Lookup(unit.ServiceUser)
	if err != nil {
		return -1
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return -1
	}
	return uid
}

// trustedConfig reads the configuration. While the file is broken, the configuration that a helper read last is in force, as
// it is for the service; it is kept in a directory where only helpers write.
func (a *app) trustedConfig() (*configs.Config, error) {
	kept := state.At(os.Getenv("STATE_DIRECTORY"))
	config, err := configs.Load(a.configFile)
	if err != nil {
		if last, lastErr := configs.Load(kept.RunningConfig()); lastErr == nil {
			config, err = last, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if err := trusted(config.Files()); err != nil {
		return nil, err
	}
	text, err := config.Effective()
	if err != nil {
		return nil, err
	}
	// A helper needs no secrets. A hidden one would be read back as a literal; a reference is not resolved.
	return config, kept.SaveRunningConfig(bytes.ReplaceAll(text, []byte("(secret)"), []byte("env:HIDDEN")))
}

// trusted makes sure that only root can write the configuration: it is what bounds a helper.
func trusted(files []string) error {
	for _, file := range files {
		for _, path := range []string{file, filepath.Dir(file)} {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			owner, ok := info.Sys().(*syscall.Stat_t)
			if mode := info.Mode().Perm(); !ok || owner.Uid != 0 || mode&0o022 != 0 {
				return &helperError{Message: fmt.Sprintf("%s can be written by others than root (owner %d, mode %04o): it cannot say what root is to do", path, owner.Uid, mode),
					KindText: "permission", NextStep: fmt.Sprintf("chown root %[1]s; chmod go-w %[1]s", path)}
			}
		}
	}
	return nil
}

// installer writes files for one connection.
type installer struct {
	config *configs.Config
	name   string // of the certificate that the plan is for
	plan   *deploy.Plan
	kept   []string // copies of files that the plan replaced
}

// install obeys one order after the other. A connection that ends while an order is carried out does not interrupt it.
func install(ctx context.Context, config *configs.Config, conn *wire.Conn) error {
	i := &installer{config: config}
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	for reading := first; ; reading = ctx {
		var order installOrder
		err := conn.Read(reading, &order)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil // the service has hung up, or systemd stops this helper
		}
		if err != nil {
			return fmt.Errorf("no order: %w", err)
		}
		if err := answer(ctx, conn, i.obey(order)); err != nil {
			return err
		}
	}
}

// obey does one thing. A plan stays until the next one, so that it can be applied and reverted.
func (i *installer) obey(order installOrder) installAnswer {
	certificate, ok := i.config.Certificate(order.Name)
	if !ok {
		return installAnswer{Error: toHelperError(fmt.Errorf("the configuration has no certificate %q", order.Name))}
	}
	switch order.Verb {
	case verbCheck:
		p := i.passOf(certificate)
		err := p.lookAtPlaces(context.Background(), order.Sound)
		return installAnswer{Error: toHelperError(err), Notes: p.result.Warnings}
	case verbPlan:
		return i.makePlan(certificate, order.Bundles)
	}
	return i.carryOut(order)
}

func (i *installer) makePlan(certificate configs.Certificate, files []installFiles) (answer installAnswer) {
	i.plan, i.name, i.kept = nil, certificate.Name, nil
	if len(files) != len(certificate.Keys) {
		answer.Error = toHelperError(fmt.Errorf("%d certificates for %d keys", len(files), len(certificate.Keys)))
		return answer
	}
	p := i.passOf(certificate)
	p.bundles = make([]*bundle.Bundle, len(files))
	for n, f := range files {
		if f.Chain == "" {
			continue
		}
		b, err := proven(certificate, certificate.Keys[n], f)
		if err != nil {
			answer.Error = toHelperError(err)
			return answer
		}
		p.bundles[n] = b
	}
	plan, err := p.planHere(p.bundles)
	if err != nil {
		answer.Error = toHelperError(err)
		return answer
	}
	now := time.Now()
	i.plan, answer.Content = plan, plan.ContentChanges()
	answer.Shortens, answer.Revertible = toHelperError(plan.Shortens(now)), toHelperError(plan.Revertible(now))
	for _, c := range plan.Changes() {
		answer.Changes = append(answer.Changes, installChange{Change: c, FileMode: c.Mode})
	}
	return answer
}

// passOf is a pass that knows the configuration and what this helper has given to files before.
func (i *installer) passOf(certificate configs.Certificate) *pass {
	p := &pass{world: &world{config: i.config}, certificate: certificate, say: func(string, string) {}}
	if record, _, err := i.lineage(certificate.Name).Look(); err == nil {
		p.record = record
	}
	return p
}

// lineage is where this helper remembers: the service's is not its own.
func (i *installer) lineage(name string) *state.Lineage {
	return state.At(os.Getenv("STATE_DIRECTORY")).Lineage(name)
}

// remember notes who may use the files. Failing that costs no more than the memory.
func (i *installer) remember() {
	certificate, ok := i.config.Certificate(i.name)
	if !ok || os.Getenv("STATE_DIRECTORY") == "" {
		return
	}
	p := i.passOf(certificate)
	p.plan = i.plan
	p.remember()
	_ = os.MkdirAll(filepath.Join(os.Getenv("STATE_DIRECTORY"), "lineages", i.name), 0o700)
	_ = i.lineage(i.name).Save(p.record)
}

// proven takes a certificate and key that match, are valid now, and for a name that is configured. They need not be for
// all names: the service may go back to a certificate that was issued before the configuration changed.
func proven(certificate configs.Certificate, key string, f installFiles) (*bundle.Bundle, error) {
	b, err := bundle.Parse([]byte(f.Chain), []byte(f.Key))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	switch {
	case string(b.KeyType()) != key:
		return nil, fmt.Errorf("the key is %s, not %s", b.KeyType(), key)
	case now.After(b.NotAfter()):
		return nil, fmt.Errorf("the certificate expired at %s", b.NotAfter().UTC().Format(time.RFC3339))
	case !slices.ContainsFunc(certificate.Domains, func(name string) bool { return slices.Contains(b.Leaf().DNSNames, name) }):
		return nil, fmt.Errorf("the certificate is for %s, not for a name of %s", strings.Join(b.Leaf().DNSNames, ", "), certificate.Name)
	}
	return b, nil
}

// carryOut does something with the plan.
func (i *installer) carryOut(order installOrder) (answer installAnswer) {
	var err error
	switch {
	case i.plan == nil:
		err = errors.New("nothing is planned")
	case order.Name != i.name:
		err = errors.New("the plan is for another certificate")
	case order.Verb == verbApply:
		err = i.plan.Apply(i.keep)
		if err == nil {
			i.remember()
		}
		answer.Kept = i.kept
	case order.Verb == verbRevert:
		err = i.plan.Revert()
	case order.Verb == verbTouch:
		err = i.plan.Touch()
	default:
		err = fmt.Errorf("the install helper does not know the verb %q", order.Verb)
	}
	answer.Error = toHelperError(err)
	return answer
}

// keep keeps a file that is about to be replaced, unless it holds a certificate or key that the service has anyway: the
// first deployment over files of the operator's must lose nothing.
func (i *installer) keep(path string, content []byte) error {
	dir := os.Getenv("STATE_DIRECTORY")
	if dir == "" {
		return errors.New("STATE_DIRECTORY is not set: the helper is started by its unit")
	}
	marker := filepath.Join(dir, "managed", strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_"))
	if _, err := os.Lstat(marker); err == nil {
		return nil // it was ours before
	}
	kept, err := state.At(dir).Lineage(i.name).Displace(path, content, time.Now())
	if err != nil {
		return err
	}
	i.kept = append(i.kept, kept)
	if err := os.MkdirAll(filepath.Dir(marker), 0o700); err != nil {
		return err
	}
	return os.WriteFile(marker, nil, 0o600)
}

// hooks runs the hooks of one event.
func hooks(ctx context.Context, config *configs.Config, conn *wire.Conn) error {
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	var order hookOrder
	if err := conn.Read(first, &order); err != nil {
		return fmt.Errorf("no order: %w", err)
	}
	if err := checkEvent(config, order); err != nil {
		return errors.Join(err, answer(ctx, conn, hookAnswer{Error: toHelperError(err)}))
	}
	outcomes, err := runHere(ctx, filepath.Join(config.Hooks.Directory, order.Event.Event+".d"), order.Event, config.Hooks.Timeout)
	return answer(ctx, conn, hookAnswer{Outcomes: outcomes, Error: toHelperError(err)})
}

// checkEvent refuses an event that the configuration does not know, and paths outside of the state directory.
func checkEvent(config *configs.Config, order hookOrder) error {
	e := order.Event
	_, configured := config.Certificate(e.Name)
	switch {
	case !slices.Contains([]string{"pre", "deploy", "post", "fail"}, e.Event):
		return fmt.Errorf("there is no event %q", e.Event)
	case !configured:
		return fmt.Errorf("the configuration has no certificate %q", e.Name)
	}
	for _, path := range []string{e.Fullchain, e.PrivateKey} {
		if path != "" && (filepath.Clean(path) != path || !strings.HasPrefix(path, filepath.Join(config.State, "lineages", e.Name)+"/")) {
			return fmt.Errorf("%q is no file of certificate %s", path, e.Name)
		}
	}
	return nil
}

// runHere runs the hooks of a directory in this process.
func runHere(ctx context.Context, dir string, event script.Event, timeout time.Duration) ([]hookOutcome, error) {
	outcomes, err := script.Run(ctx, dir, event, timeout)
	list := make([]hookOutcome, len(outcomes))
	for i, o := range outcomes {
		list[i] = hookOutcome{Hook: o.Hook, Skipped: o.Skipped, Failed: o.Err != nil, Duration: o.Duration}
	}
	return list, err
}

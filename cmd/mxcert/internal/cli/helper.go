package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/configs"
	"mxcert/deploy"
)

// A helper runs as root for an unprivileged service. It believes the service nothing: the configuration, which only root
// may write, says what exists; a certificate and key are proven here again and must be for its names; paths, owner and mode
// come from the configuration; hooks are those of the configured directory. So whoever takes over the service can put a
// certificate in place that he has, and no more.

// helperCommand is what the helpers' units run. It is not for people.
func (a *app) helperCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use: "helper install|hook ID", Short: "What mxcert-install@.service and mxcert-hook@.service run", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := helperKind(args[0])
			if kind != installHelper && kind != hookHelper {
				return usage("the helpers are install and hook, not %q", args[0])
			}
			return a.helper(cmd.Context(), kind, args[1], socket)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "/run/mxcert/helper.sock", "`PATH` of the service's desk")
	return cmd
}

// helper comes to the desk and does what it is told, until the service hangs up.
func (a *app) helper(ctx context.Context, kind helperKind, id, socket string) error {
	config, err := a.trustedConfig()
	if err != nil {
		return err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("the service's desk cannot be reached: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	h := newHelperConn(conn)
	if err := h.write(helperHello{Helper: kind, ID: id}); err != nil {
		return err
	}
	if kind == hookHelper {
		return a.hookHelper(ctx, config, h)
	}
	i := &installer{config: config}
	for {
		var order installOrder
		if err := h.read(&order); err != nil {
			return nil // it has hung up
		}
		if err := h.write(i.obey(order)); err != nil {
			return err
		}
	}
}

// trustedConfig reads the configuration. While the file is broken, the one that a helper read last is in force, as it is
// for the service; it is kept where only helpers write.
func (a *app) trustedConfig() (*configs.Config, error) {
	kept := state.New(disk.At(os.Getenv("STATE_DIRECTORY")))
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
	// A hidden secret is none: a helper needs no secrets.
	return config, kept.SaveRunningConfig(bytes.ReplaceAll(text, []byte("(secret)"), []byte("env:HIDDEN")))
}

// trusted makes sure that nobody but root can write the configuration: it is what bounds a helper.
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

// installer is the install helper.
type installer struct {
	config *configs.Config
	name   string
	plan   *deploy.Plan
	kept   []string
}

// obey does one thing. A plan stays until the next, so that it can be applied and taken back.
func (i *installer) obey(order installOrder) installAnswer {
	certificate, ok := i.config.Certificate(order.Name)
	if !ok {
		return installAnswer{Error: toHelperError(fmt.Errorf("the configuration has no certificate %q", order.Name))}
	}
	if i.plan != nil && order.Verb != verbPlan && order.Name != i.name {
		return installAnswer{Error: toHelperError(errors.New("the plan is of another certificate"))}
	}
	switch order.Verb {
	case verbCheck:
		p := i.passOf(certificate)
		err := p.lookAtPlaces(context.Background(), order.Sound)
		return installAnswer{Error: toHelperError(err), Notes: p.result.Warnings}
	case verbPlan:
		return i.makePlan(certificate, order.Bundles)
	case verbApply, verbRevert, verbTouch:
		if i.plan == nil {
			break
		}
		return i.carryOut(order)
	}
	return installAnswer{Error: toHelperError(errors.New("nothing is planned"))}
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
	i.plan, answer.Plan = plan, plan.Summary()
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
	return state.New(disk.At(os.Getenv("STATE_DIRECTORY"))).Lineage(name)
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

func (i *installer) carryOut(order installOrder) (answer installAnswer) {
	switch order.Verb {
	case verbApply:
		err := i.plan.Apply(i.keep)
		if err == nil {
			i.remember()
		}
		answer.Error, answer.Kept = toHelperError(err), i.kept
	case verbRevert:
		answer.Error = toHelperError(i.plan.Revert())
	case verbTouch:
		answer.Error = toHelperError(i.plan.Touch())
	}
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
	kept, err := state.New(disk.At(dir)).Lineage(i.name).Displace(path, content, time.Now())
	if err != nil {
		return err
	}
	i.kept = append(i.kept, kept)
	if err := os.MkdirAll(filepath.Dir(marker), 0o700); err != nil {
		return err
	}
	return os.WriteFile(marker, nil, 0o600)
}

// hookHelper runs the hooks of one event.
func (a *app) hookHelper(ctx context.Context, config *configs.Config, h *helperConn) error {
	var order hookOrder
	if err := h.read(&order); err != nil {
		return err
	}
	if err := checkEvent(config, order); err != nil {
		return errors.Join(err, h.write(hookAnswer{Error: toHelperError(err)}))
	}
	outcomes, err := runHere(ctx, filepath.Join(config.Hooks.Directory, order.Event.Event+".d"), order.Event, config.Hooks.Timeout)
	return h.write(hookAnswer{Outcomes: outcomes, Error: toHelperError(err)})
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

// readDirNames lists a directory; one that is missing is empty.
func readDirNames(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

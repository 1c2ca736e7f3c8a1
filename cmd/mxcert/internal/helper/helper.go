// Package helper contains the two helpers that run as root, and the client that calls them. The service has no privileges, but
// two tasks need some: writing files at paths that belong to root (the install helper), and running the operator's hooks (the
// hook helper).
//
// A helper does not trust the service. The configuration, which only root may write, says what exists. The helper checks a
// certificate and its key again, and they must be for the configured names. It takes paths, owners and modes from the
// configuration, and hooks from the configured directory. Hooks see names from the configuration, and copies of the files that
// the helper has checked. So an attacker who takes over the service can deploy a certificate that the service already has, and
// have hooks run for it, but can do no more.
//
// For the install helper the service's user is nobody. What lies below a directory that this user can write it leaves to the service,
// which can write there itself: that user could make a name there lead to any file at the moment when root writes. A deployment may have
// parts of both kinds, and succeeds or fails as a whole.
//
// [Client] does the same work in its own process if that process has the rights.
package helper

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

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// firstOrder is how long a helper waits for its first order. After that it waits as long as the connection is open.
const firstOrder = 20 * time.Second

// Serve carries out the orders of the service at the other end of a connection, until the service hangs up. It reads configFile
// itself, with the rights of root. The service runs as the given user.
func Serve(ctx context.Context, kind Kind, configFile, service string, conn *wire.Conn) error {
	if err := conn.Admit(0, os.Geteuid(), uidOf(service)); err != nil {
		err = &Error{Message: "only root and the user " + service + " may give orders: " + err.Error(), KindText: "permission",
			NextStep: "run mxcert as root, or as the user " + service}
		return refuse(ctx, conn, err)
	}
	host, err := trustedHost(configFile)
	if err != nil {
		return refuse(ctx, conn, err)
	}
	if kind == Hook {
		return serveHook(ctx, host, conn)
	}
	return serveInstall(ctx, host, service, conn)
}

// refuse answers the first order, whatever it is, with the error, and returns that error.
func refuse(ctx context.Context, conn *wire.Conn, why error) error {
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	var order any
	if err := conn.Read(first, &order); err == nil {
		_ = answer(ctx, conn, refusal{Error: newError(why)}) // the cause matters more than a failure to send it
	}
	return why
}

// answer sends the result of an order, even if systemd has started to stop this helper meanwhile.
func answer(ctx context.Context, conn *wire.Conn, v any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), firstOrder)
	defer cancel()
	return conn.Write(ctx, v)
}

// uidOf returns the number of a user; -1 if this host does not have the user.
func uidOf(name string) int {
	u, err := user.Lookup(name)
	if err != nil {
		return -1
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return -1
	}
	return uid
}

// trustedHost reads the configuration. While the file is broken, the last good one that a helper has read stays in force, as it
// does for the service; helpers keep it in a directory that only they write.
func trustedHost(configFile string) (*wanted.Host, error) {
	kept := state.New(disk.At(os.Getenv("STATE_DIRECTORY")))
	config, err := configs.Load(configFile)
	if err != nil {
		if name, text, lastErr := kept.RunningConfig(); lastErr == nil {
			if last, lastErr := configs.Parse(name, text); lastErr == nil {
				config, err = last, nil
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := trusted(config.Files()); err != nil {
		return nil, err
	}
	text, err := config.Effective(nil)
	if err != nil {
		return nil, err
	}
	// The kept copy hides secrets, and a helper does not need them.
	if err := kept.SaveRunningConfig(bytes.ReplaceAll(text, []byte("(secret)"), []byte("env:HIDDEN"))); err != nil {
		return nil, err
	}
	host, _ := wanted.From(config) // the service reports roots that cannot be read; a helper does not judge chains
	return host, nil
}

// trusted makes sure that only root can write the configuration: the configuration limits what a helper does.
func trusted(files []string) error {
	for _, file := range files {
		for _, path := range []string{file, filepath.Dir(file)} {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			owner, ok := info.Sys().(*syscall.Stat_t)
			if mode := info.Mode().Perm(); !ok || owner.Uid != 0 || mode&0o022 != 0 {
				return &Error{Message: fmt.Sprintf("users other than root can write %s (owner %d, mode %04o), so a helper that runs as root does not use it", path, owner.Uid, mode),
					KindText: "permission", NextStep: fmt.Sprintf("chown root %[1]s; chmod go-w %[1]s", path)}
			}
		}
	}
	return nil
}

// installer is the install helper. It keeps a plan until the next one, so that the plan can be applied and reverted.
type installer struct {
	host    *wanted.Host
	service string             // the user who gives the orders
	want    wanted.Certificate // of the plan: the part that is not left to the service
	bundles []*bundle.Bundle   // of the plan
	plan    *deploy.Plan
	kept    []string
}

// serveInstall carries out one order after the other. The end of the connection does not interrupt an order.
func serveInstall(ctx context.Context, host *wanted.Host, service string, conn *wire.Conn) error {
	i := &installer{host: host, service: service}
	first, cancel := context.WithTimeout(ctx, firstOrder)
	defer cancel()
	for reading := first; ; reading = ctx {
		var order installOrder
		err := conn.Read(reading, &order)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil // the service has hung up, or systemd is stopping this helper
		}
		if err != nil {
			return fmt.Errorf("no order: %w", err)
		}
		if err := answer(ctx, conn, i.obey(ctx, order)); err != nil {
			return err
		}
	}
}

// obey carries out one order.
func (i *installer) obey(ctx context.Context, order installOrder) installAnswer {
	want, ok := i.host.Certificate(order.Name)
	if !ok {
		return installAnswer{Error: newError(fmt.Errorf("the configuration has no certificate %q", order.Name))}
	}
	if i.plan != nil && order.Verb != verbPlan && order.Verb != verbStapling && order.Name != i.want.Name {
		return installAnswer{Error: newError(errors.New("the plan is for another certificate"))}
	}
	switch order.Verb {
	case verbCheck:
		if len(order.Kinds) > 0 {
			want = want.Only(order.Kinds...)
		}
		return i.check(ctx, want, order.Sound)
	case verbPlan:
		return i.makePlan(want, order.Bundles)
	case verbStapling:
		setting, err := discover.Stapling(ctx)
		return installAnswer{Setting: setting, Error: newError(err)}
	case verbApply, verbApplyNew, verbRevert, verbUndo, verbTouch:
		if i.plan == nil {
			break
		}
		return i.carryOut(order)
	}
	return installAnswer{Error: newError(errors.New("nothing is planned"))}
}

func (i *installer) check(ctx context.Context, want wanted.Certificate, sound bool) (answer installAnswer) {
	own, left, err := divide(want, i.service)
	if err == nil {
		answer.Left = left
		answer.Notes, err = checkHere(ctx, own, knownFiles(own.Name), sound)
	}
	answer.Error = newError(err)
	return answer
}

func (i *installer) makePlan(want wanted.Certificate, files []installFiles) (answer installAnswer) {
	i.plan, i.want, i.kept = nil, want, nil
	own, left, err := divide(want, i.service)
	if err != nil {
		answer.Error = newError(err)
		return answer
	}
	if len(files) != len(want.Keys) {
		answer.Error = newError(fmt.Errorf("%d certificates for %d keys", len(files), len(want.Keys)))
		return answer
	}
	bundles, staples := make([]*bundle.Bundle, len(files)), wanted.Staples{}
	for n, f := range files {
		if f.Chain == "" {
			continue
		}
		b, err := proven(want, f, want.Keys[n])
		if err == nil {
			err = unexpired(b)
		}
		if err == nil {
			err = provenStaple(b, f.Staple)
		}
		if err != nil {
			answer.Error = newError(err)
			return answer
		}
		bundles[n], staples[b.Serial()] = b, f.Staple
	}
	own = own.WithStaples(staples)
	plan, err := Look(own, bundles, knownFiles(own.Name))
	if err != nil {
		answer.Error = newError(err)
		return answer
	}
	i.want, i.bundles, i.plan = own, bundles, tryFirst(plan)
	answer.Plan, answer.Left = plan.Summary(), left
	return answer
}

// proven accepts a certificate and key if they match, are of one of these types, and are for a configured name. They need not cover
// all names: the service may go back to a certificate that was issued before the configuration changed.
func proven(want wanted.Certificate, f installFiles, keys ...bundle.KeyType) (*bundle.Bundle, error) {
	b, err := bundle.Parse([]byte(f.Chain), []byte(f.Key))
	if err != nil {
		return nil, err
	}
	switch {
	case !slices.Contains(keys, b.KeyType()):
		return nil, fmt.Errorf("the key is %s, not %v", b.KeyType(), keys)
	case !covers(want, b):
		return nil, fmt.Errorf("the certificate is for %.300q, not for a name of %s", b.Leaf().DNSNames, want.Name)
	}
	return b, nil
}

// covers reports whether the certificate is for a configured name.
func covers(want wanted.Certificate, b *bundle.Bundle) bool {
	return slices.ContainsFunc(want.Names, func(name string) bool {
		return slices.ContainsFunc(b.Leaf().DNSNames, func(own string) bool { return strings.EqualFold(own, name) })
	})
}

// unexpired returns an error if the certificate has expired.
func unexpired(b *bundle.Bundle) error {
	if time.Now().After(b.NotAfter()) {
		return fmt.Errorf("the certificate expired at %s", b.NotAfter().UTC().Format(time.RFC3339))
	}
	return nil
}

func (i *installer) carryOut(order installOrder) (answer installAnswer) {
	switch order.Verb {
	case verbApply:
		err := i.plan.Apply(i.keep)
		if err == nil {
			i.remember()
		}
		answer.Error, answer.Kept = newError(err), i.kept
	case verbApplyNew:
		paths, err := i.plan.ApplyNew()
		if err == nil && len(paths) > 0 {
			i.remember()
		}
		answer.Error, answer.Written = newError(err), paths
	case verbRevert:
		answer.Error = newError(i.plan.Revert())
	case verbUndo:
		answer.Error = newError(i.plan.Undo())
	case verbTouch:
		answer.Error = newError(i.plan.Touch())
	}
	return answer
}

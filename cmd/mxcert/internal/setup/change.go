package setup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"mxcert/deploy"
	"mxcert/deploy/discover"
	"mxcert/deploy/starttls"
)

// Change makes one mail server read the certificate.
type Change interface {
	// Server names the server.
	Server() string
	// Diff returns the lines that change; "" if there are none.
	Diff() string
	// Automatic reports whether Apply can make the change.
	Automatic() bool
	// ByHand says how a person makes it.
	ByHand() string
	// Apply makes the change and reloads the server. done are lines about what it has written and done. If the server does not accept the
	// change, Apply takes it back, and the error says why. Files that no server reads yet may remain.
	Apply(ctx context.Context) (done []string, err error)
}

// Changes lists what has to change at the servers of the targets, for complete answers.
func (a *Answers) Changes() (list []Change, err error) {
	for _, t := range a.Targets {
		switch t.Kind {
		case exim:
			change, err := PlanExim(t.server.exim, t.Pairs, a.Domains)
			if err != nil {
				return nil, err
			}
			if change != nil {
				list = append(list, change)
			}
		case postfix, dovecot:
			if !t.reads() {
				list = append(list, &settingChange{target: t, names: a.Domains, endpoints: t.server.Endpoints})
			}
		}
	}
	return list, nil
}

// settingChange is a change of Postfix or Dovecot.
type settingChange struct {
	target    Target
	names     []string // of the certificate
	endpoints []string // of this server
}

func (c *settingChange) Server() string { return nameOf(c.target.Kind) }

func (c *settingChange) Automatic() bool { return len(c.target.server.Endpoints) > 0 }

func (c *settingChange) Diff() string {
	path := c.target.server.reading.File()
	return fmt.Sprintf("--- %[1]s\n+++ %[1]s\n+%[2]s\n", path, strings.Join(c.target.server.reading.Settings(c.target.Pairs), "\n+"))
}

func (c *settingChange) ByHand() string {
	first := ""
	if missing(c.target.Pairs) {
		first = "first run `mxcert renew`, which writes the files; then "
	}
	return "by hand: " + first + c.target.server.reading.ByHand(c.target.Pairs)
}

func missing(pairs []deploy.Pair) bool {
	for _, p := range pairs {
		if _, err := os.Stat(p.Certificate); err != nil {
			return true
		}
	}
	return false
}

func (c *settingChange) Apply(ctx context.Context) (done []string, err error) {
	server := c.target.server
	done, err = provide(c.target.Pairs, server.Pairs, c.names, "")
	if err != nil {
		return done, err
	}
	a, err := server.reading.Adapt(ctx, c.target.Pairs)
	if err != nil {
		return done, err
	}
	before, err := lookAt(a.Path)
	if err != nil {
		return done, err
	}
	f := file{path: a.Path, text: a.New, mode: 0o644, uid: -1, gid: -1, keep: true}
	if before.exists {
		f.mode, f.uid, f.gid = before.mode, before.uid, before.gid
	}
	if a.Path != server.reading.File() || strings.HasSuffix(a.Path, ".conf") {
		f.keep = false // a second file in conf.d would be read, and this one is mxcert's own
	}
	written, err := writeAll([]file{f})
	if err != nil {
		return done, err
	}
	if err = c.inService(ctx); err != nil {
		ctx := context.WithoutCancel(ctx)
		return done, errors.Join(fmt.Errorf("%s does not accept the change, so mxcert has restored %s: %w", c.Server(), a.Path, err), putBack([]old{before}), c.reload(ctx))
	}
	return append(append(done, written...), "reloaded "+server.Unit+": "+c.Server()+" reads "+pairsText(c.target.Pairs)), nil
}

func (c *settingChange) reload(ctx context.Context) error {
	return must(ctx, "systemctl", "reload", c.target.Unit)
}

// inService checks the configuration, reloads the server and waits until every endpoint shows one of the certificates.
func (c *settingChange) inService(ctx context.Context) error {
	if err := discover.Sound(ctx, c.target.Kind); err != nil {
		return err
	}
	if err := c.reload(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, endpoint := range c.endpoints {
		for {
			err := c.shown(ctx, endpoint)
			if err == nil {
				break
			}
			if sleep(ctx, 200*time.Millisecond); ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// shown reports why an endpoint does not show one of the certificates in the files.
func (c *settingChange) shown(ctx context.Context, endpoint string) error {
	result, err := starttls.Handshake(ctx, starttls.Request{Address: endpoint, ServerName: c.names[0], KeyType: starttls.Any, BannerTimeout: settleTime, StepTimeout: settleTime})
	if err != nil {
		return err
	}
	for _, p := range c.target.Pairs {
		if loaded, err := tls.LoadX509KeyPair(p.Certificate, p.Key); err == nil && starttls.Match(result.Chain, loaded.Leaf) {
			return nil
		}
	}
	return fmt.Errorf("%s shows another certificate", endpoint)
}

// pairsText names files for a person.
func pairsText(pairs []deploy.Pair) string {
	var list []string
	for _, p := range pairs {
		if list = append(list, p.Certificate); p.Key != p.Certificate {
			list = append(list, p.Key)
		}
	}
	return strings.Join(list, ", ")
}

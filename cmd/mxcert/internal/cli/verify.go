package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mxcert/acme/ct/sct"
	"mxcert/acme/resolve"
	"mxcert/configs"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// verifyTime limits a look: a mail server may take a minute to greet, and there is one handshake after the other at each address.
const verifyTime = 5 * time.Minute

const verifyHelp = `Makes the handshakes that senders make, and says what each kind of sender decides: opportunistic (TLS without a look
at the certificate), pkix (a trusted certificate for the MX name), dane (RFC 7672), mta_sts (RFC 8461) and requiretls (RFC 8689).

Without --host and --domain it looks at the endpoints of your certificates, and at all that senders of mail to their mail_domains
meet. --domain does that for anybody's domain, --host for one MX host. Both need neither a configuration nor root.

DANE is judged only with a resolver that validates DNSSEC and whose word counts: on loopback, in dns.resolvers_trusted, or over TLS
with a checked name (--resolver tls://NAME@ADDRESS). The result names it. mxcert never sends mail: it ends with QUIT after the handshake.

Exit code 3 if a sender of some kind fails or a finding is an error; --for says which kinds count. 75 if nothing could be judged
from here, because port 25 is closed on the way out or no resolver answers. If acme.roots_file is not set, an unknown root of an own
certificate fails for pkix, but is not counted: staging and private CAs are like that, and most senders deliver all the same.

mxcert-senders(7) says how to read the verdicts, and what to do about each finding.`

const verifyExamples = `  mxcert verify --domain example.org
  mxcert verify --domain example.org --for dane,mta_sts --at +14d
  mxcert verify --host mx.example.org --openssl`

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify [NAME…]", Short: "Shake hands as a sender does, and judge what is served", Args: cobra.ArbitraryArgs,
		Long: verifyHelp, Example: verifyExamples,
		RunE: func(cmd *cobra.Command, names []string) error {
			task, err := f.task(names, cmd.Flags().Changed, time.Now())
			if err != nil {
				return err
			}
			if task.own() {
				return a.verifyOwn(cmd.Context(), task)
			}
			return a.verifyOthers(cmd.Context(), task)
		},
	}
	f.define(cmd.Flags())
	return cmd
}

// verifyTask is what to look at, and how.
type verifyTask struct {
	names   []string // of own certificates
	hosts   []string
	domains []string
	options survey.Options
	servers []string // resolvers of the command line
	// serverRoots are those of resolvers that are asked over TLS: those of --roots, and those of the system, because a public resolver may
	// serve a private world; nil: those of the system.
	serverRoots *x509.CertPool
	rootsFile   string         // as it was typed
	kinds       []verdict.Kind // that count; nil: all, and findings
	logs        sct.Logs       // whose keys check SCTs; nil: none are checked
	commands    bool           // print the commands of other tools
}

// own says that the task is about the certificates of the configuration.
func (t verifyTask) own() bool { return len(t.hosts) == 0 && len(t.domains) == 0 }

// verifyOthers looks at hosts or domains that need not be ours.
func (a *app) verifyOthers(parent context.Context, task verifyTask) error {
	if err := a.prepareSender(&task); err != nil {
		return err
	}
	ctx, cancel := a.within(parent, verifyTime)
	defer cancel()
	narrator := a.narrate()
	task.options.Progress = narrator.speakOf()
	seen := look(ctx, task)
	narrator.end()
	if err := parent.Err(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := noResolver(ctx, seen, task.options.Resolver); err != nil {
		return err
	}
	r := newVerifyReport(seen, task)
	if task.commands {
		r.Commands = equivalents(ctx, seen, task)
	}
	return a.finishVerify(r, verifyCode(r, task))
}

// mostAtOnce is how many domains or hosts of the command line are looked at at the same time.
const mostAtOnce = 16

// look looks at the hosts and domains of a task.
func look(ctx context.Context, task verifyTask) sight {
	parts := make([]sight, len(task.domains)+len(task.hosts))
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	for i := range parts {
		group.Go(func() error {
			if i < len(task.domains) {
				domain, hosts := survey.LookAtDomain(ctx, task.domains[i], task.options)
				parts[i] = sight{domains: []survey.Domain{domain}, hosts: hosts}
			} else {
				parts[i].hosts = survey.LookAtHost(ctx, task.hosts[i-len(task.domains)], task.options)
			}
			return nil
		})
	}
	_ = group.Wait() // what failed is in what was seen
	return joined(parts)
}

// sight is what was seen of domains and hosts. The hosts of a domain name it in their route.
type sight struct {
	domains []survey.Domain
	hosts   []survey.Host
}

// joined puts what was seen together, in order.
func joined(parts []sight) (all sight) {
	for _, part := range parts {
		all.domains, all.hosts = append(all.domains, part.domains...), append(all.hosts, part.hosts...)
	}
	return all
}

// prepareSender chooses the resolver for hosts and domains that need no configuration: the servers of the command line, else those of the
// configuration if there is one that can be read, else those of the system. The configuration also says which addresses are ours.
func (a *app) prepareSender(task *verifyTask) error {
	config, err := configs.Load(a.configFile)
	named := len(task.servers) > 0
	if err != nil && !named && a.configFile != defaultConfig && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	task.options.Resolver, task.options.Ours = task.resolver(nil), ours(nil)
	if err != nil {
		return nil //nolint:nilerr // none is needed
	}
	task.options.Ours, task.logs = ours(wanted.PublicAddresses(config)), readLogs(config)
	if named {
		task.options.Resolver = task.resolver(config.DNS.ResolversTrusted)
	} else {
		task.options.Resolver = resolve.New(config.DNS.Resolvers).Trust(config.DNS.ResolversTrusted...).Roots(task.serverRoots)
	}
	return nil
}

// resolver asks the servers of the command line, or those of the system. Of the servers of the command line, the word of those counts that
// dns.resolvers_trusted has.
func (t verifyTask) resolver(trusted []string) *resolve.Resolver {
	r := resolve.New(t.servers).Roots(t.serverRoots)
	for _, text := range trusted {
		if server, err := resolve.ParseServer(text); err == nil && slices.Contains(t.servers, server) {
			r.Trust(server)
		}
	}
	return r
}

// rootsOr returns the roots of the command line if there are any.
func (t verifyTask) rootsOr(configured *x509.CertPool) *x509.CertPool {
	if t.options.Roots != nil {
		return t.options.Roots
	}
	return configured
}

// counts reports whether a verdict of this kind counts for the exit code.
func (t verifyTask) counts(kind verdict.Kind) bool {
	return len(t.kinds) == 0 || slices.Contains(t.kinds, kind)
}

// finishVerify prints the report.
func (a *app) finishVerify(r verifyReport, code report.Code) error {
	r.OK = code == report.CodeOK
	return a.finish(answer{document: r, code: code, print: func(out sheet) { printVerify(out, r) }})
}

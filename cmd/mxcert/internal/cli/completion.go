package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mxcert/acme/authority"
	"mxcert/acme/dnsprovider"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/adopt"
	"mxcert/cmd/mxcert/internal/revoke"
	"mxcert/cmd/mxcert/internal/wanted"
)

// The functions of this file answer the shell's question what may follow. They print no error: whoever may not read the configuration, or
// has none, is offered nothing.

// completions makes the commands and flags below root complete their values: names where names are meant, and files only where files are.
func (a *app) completions(root *cobra.Command) {
	for name, values := range map[string]cobra.CompletionFunc{
		"renew": a.certificateNames(many), "status": a.certificateNames(many), "verify": a.certificateNames(many), "doctor": a.certificateNames(many),
		"deploy": a.certificateNames(1), "rollback": a.certificateNames(1), "history": a.certificateNames(1), "revoke": a.certificateNames(1),
		"providers": first(dnsprovider.Names), "import": importArguments, "helper": cobra.NoFileCompletions,
	} {
		find(root, name).ValidArgsFunction = values
	}
	flag := func(cmd *cobra.Command, name string, values cobra.CompletionFunc) {
		_ = cmd.RegisterFlagCompletionFunc(name, values) // cannot fail: the flag exists, and has no function yet
	}
	flag(root, "config", cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt))
	flag(root, "progress", fixed("auto", "plain", "none"))
	flag(root, "log-level", fixed("debug", "info", "warn", "error"))
	flag(find(root, "verify"), "for", fixed(strings.Split(kindNames(","), ",")...))
	flag(find(root, "revoke"), "reason", fixed(revoke.Reasons()...))
	flag(find(root, "revoke"), "serial", a.serials)
	flag(find(root, "revoke"), "key", a.keyTypes)
	for _, cmd := range find(root, "notify").Commands() {
		cmd.ValidArgsFunction = a.channelNames
	}
	for _, cmd := range find(root, "tlsa").Commands() {
		cmd.ValidArgsFunction = a.certificateNames(1)
		if cmd.Name() == "show" {
			flag(cmd, "format", fixed("zone", "nsupdate", "json"))
		}
	}
	for _, cmd := range find(root, "account").Commands() {
		flag(cmd, "ca", a.caNames)
	}
	find(root, "fleet", "forget").ValidArgsFunction = a.fleetHosts
	find(root, "fleet", "recipients", "remove").ValidArgsFunction = a.fleetRecipientNames
	noFiles(root)
}

// many is more names than a command line has.
const many = 1 << 20

func find(root *cobra.Command, names ...string) *cobra.Command {
	cmd, _, _ := root.Find(names) // cannot fail: the command exists
	return cmd
}

func fixed(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// first offers words for the first argument.
func first(words func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(), cobra.ShellCompDirectiveNoFileComp
	}
}

// importArguments offers the clients, then directories.
func importArguments(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return adopt.Clients(), cobra.ShellCompDirectiveNoFileComp
	case 1:
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// noFiles keeps the shell from offering files for arguments and flags that are none.
func noFiles(cmd *cobra.Command) {
	if cmd.ValidArgs == nil && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	quiet := func(f *pflag.Flag) {
		kind, _ := pflag.UnquoteUsage(f)
		if f.NoOptDefVal == "" && !slices.Contains([]string{"FILE", "DIRECTORY", "PATH"}, kind) {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // fails if the flag has its own values
		}
	}
	cmd.PersistentFlags().VisitAll(quiet)
	cmd.LocalNonPersistentFlags().VisitAll(quiet)
	for _, sub := range cmd.Commands() {
		noFiles(sub)
	}
}

// hostForCompletion reads the configuration. It returns an empty host if that cannot be done.
func (a *app) hostForCompletion() *wanted.Host {
	config, err := configs.Load(a.configFile)
	if err != nil {
		return &wanted.Host{}
	}
	host, _ := wanted.From(config) // no chain is checked here
	return host
}

// channelNames offers the channels of notifications that are not in the line yet.
func (a *app) channelNames(_ *cobra.Command, args []string, _ string) (names []string, directive cobra.ShellCompDirective) {
	for _, c := range a.hostForCompletion().Channels() {
		if !slices.Contains(args, c.Name) {
			names = append(names, cobra.CompletionWithDesc(c.Name, c.Kind))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// certificateNames offers the names of the certificates that are not in the line yet, up to a number of them.
func (a *app) certificateNames(most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) (names []string, directive cobra.ShellCompDirective) {
		if len(args) < most {
			for _, c := range a.hostForCompletion().Certificates {
				if !slices.Contains(args, c.Name) {
					names = append(names, cobra.CompletionWithDesc(c.Name, c.Names[0]))
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// caNames offers the CAs of the configuration.
func (a *app) caNames(*cobra.Command, []string, string) (names []string, directive cobra.ShellCompDirective) {
	for _, directory := range a.hostForCompletion().Directories {
		names = append(names, authority.Name(directory))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// keyTypes offers the key types of the named certificates.
func (a *app) keyTypes(_ *cobra.Command, args []string, _ string) (types []string, directive cobra.ShellCompDirective) {
	for _, c := range a.named(args) {
		for _, key := range c.Keys {
			if !slices.Contains(types, string(key)) {
				types = append(types, string(key))
			}
		}
	}
	return types, cobra.ShellCompDirectiveNoFileComp
}

// serials offers the serial numbers of the stored certificates, the newest first.
func (a *app) serials(_ *cobra.Command, args []string, _ string) (list []string, directive cobra.ShellCompDirective) {
	host := a.hostForCompletion()
	wants, _ := host.Choose(args)
	store, err := view(host.State)
	if err != nil || host.State == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, want := range wants {
		generations, _ := store.Lineage(want.Name).Generations()
		for _, g := range slices.Backward(generations) {
			list = append(list, cobra.CompletionWithDesc(g.Serial, want.Name+" "+string(g.Key)+" until "+g.NotAfter.UTC().Format("2006-01-02")))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// named returns the certificates of these names; all if there are none.
func (a *app) named(names []string) []wanted.Certificate {
	wants, _ := a.hostForCompletion().Choose(names)
	return wants
}

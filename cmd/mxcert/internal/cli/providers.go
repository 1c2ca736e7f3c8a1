package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"mxcert/acme/dnsprovider"

	"mxcert/cmd/mxcert/internal/report"
)

func (a *app) providersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "providers [NAME]", Short: "List the DNS providers, or the variables of one", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, names []string) error {
			if len(names) == 1 {
				return a.describeProvider(names[0])
			}
			return a.listProviders()
		},
	}
}

// providerReport is one line of `providers --json`.
type providerReport struct {
	Provider string `json:"provider"`
	dnsprovider.Description
}

func (a *app) listProviders() error {
	list := []providerReport{}
	for _, name := range dnsprovider.Names() {
		d, err := dnsprovider.Describe(name)
		if err != nil {
			return err
		}
		list = append(list, providerReport{Provider: name, Description: d})
	}
	if a.json {
		return a.printJSON(map[string]any{"providers": list})
	}
	for _, p := range list {
		fmt.Fprintf(a.stdout, "%-14s %s\n", p.Provider, p.Name)
	}
	return nil
}

func (a *app) describeProvider(name string) error {
	d, err := dnsprovider.Describe(name)
	if err != nil {
		return &report.Exit{Code: report.CodeUsage, Err: err}
	}
	if a.json {
		return a.printJSON(providerReport{Provider: name, Description: d})
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", name, d.Name)
	for _, page := range []string{d.URL, d.Documentation} {
		if page != "" {
			fmt.Fprintln(a.stdout, page)
		}
	}
	if d.Sequential {
		fmt.Fprintln(a.stdout, "mxcert gives it one record at a time and proves names one after another.")
	}
	if d.Forgetful {
		fmt.Fprintln(a.stdout, "It can remove a record only in the process that created it: mxcert reports records that a crash left, and you remove them by hand.")
	}
	a.printVariables("Credentials, for dns.env", d.Variables, func(v dnsprovider.Variable) bool { return v.Credential })
	a.printVariables("Settings, for dns.env", d.Variables, func(v dnsprovider.Variable) bool { return !v.Credential })
	fmt.Fprintln(a.stdout, "\nNAME_FILE names a file with the value; cred:, file: and env: references work too.")
	fmt.Fprintln(a.stdout, "An account in dns.zones has an env of its own with the same variables. Other certificates, providers and accounts do not see the values.")
	return nil
}

func (a *app) printVariables(title string, variables []dnsprovider.Variable, belongs func(dnsprovider.Variable) bool) {
	shown := slices.DeleteFunc(slices.Clone(variables), func(v dnsprovider.Variable) bool { return !belongs(v) })
	if len(shown) == 0 {
		return
	}
	if shown[0].Credential && !slices.ContainsFunc(shown, func(v dnsprovider.Variable) bool { return v.Required }) {
		title += " (not all: there are alternatives)"
	}
	fmt.Fprintf(a.stdout, "\n%s:\n", title)
	for _, v := range shown {
		line := v.Name
		if v.File != "" {
			line += " or " + v.File
		}
		if v.Required {
			line += " (needed)"
		}
		fmt.Fprintf(a.stdout, "  %s\n      %s\n", line, v.Meaning)
	}
}

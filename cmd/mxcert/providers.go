package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mxcert/acme/dnsprovider"
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
		return &exitError{code: exitUsage, err: err}
	}
	if a.json {
		return a.printJSON(providerReport{Provider: name, Description: d})
	}
	fmt.Fprintf(a.stdout, "%s: %s\n%s\n\nVariables for dns.env (NAME_FILE names a file with the value; cred:, file: and env: references work too):\n", name, d.Name, d.URL)
	for _, v := range d.Variables {
		need := ""
		if v.Required {
			need = " (needed)"
		}
		fmt.Fprintf(a.stdout, "  %s%s\n      %s\n", v.Name, need, v.Meaning)
	}
	return nil
}

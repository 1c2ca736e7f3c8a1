package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// text is the configuration, with the comments that a reader needs who sees it for the first time.
func (i *initializer) text() string {
	var y strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&y, format+"\n", args...) }
	line("# Configuration of mxcert, written by mxcert init. Every setting: mxcert config example, man mxcert.yaml")
	line("# After a change: mxcert check. A running daemon takes it up by itself.")
	line("acme:")
	if i.email != "" {
		line("  email: %s", yamlText(i.email))
	}
	line("  agree_tos: true            # the terms of service of the CA were read and agreed to")
	line("  directory: %s", yamlText(i.directory))
	if i.caFile != "" {
		line("  ca_file: %s", yamlText(i.caFile))
	}
	line("")
	line("# How the TXT records of the challenges are written. `mxcert providers %s` explains the variables.", i.provider)
	line("dns:")
	line("  provider: %s", i.provider)
	if len(i.env) > 0 {
		line("  env:")
		for _, name := range slices.Sorted(maps.Keys(i.env)) {
			line("    %s: %s", name, yamlText(i.env[name]))
		}
	}
	if len(i.resolvers) > 0 {
		var quoted []string
		for _, r := range i.resolvers {
			quoted = append(quoted, yamlText(r))
		}
		line("  resolvers: [%s]", strings.Join(quoted, ", "))
	}
	line("")
	line("certificates:")
	line("  - name: mx")
	line("    # The first is the name that senders use: the one in the MX record.")
	line("    domains: [%s]", strings.Join(i.domains, ", "))
	i.target(line)
	return y.String()
}

// target is the deploy section.
func (i *initializer) target(line func(string, ...any)) {
	if i.mta == "none" {
		line("    # Nothing is deployed: the certificate is only issued.")
		line("    verify: {endpoints: []}")
		return
	}
	line("    deploy:")
	line("      - %s:", i.mta)
	line("          certificate: %s", i.certificate)
	line("          private_key: %s", i.key)
	if i.unit != "" {
		line("          unit: %s", i.unit)
	}
	if i.mta == "exim" && strings.HasPrefix(i.key, "/etc/") {
		line("          # Exim opens its key after it dropped root.")
		line("          group: Debian-exim")
	}
	if i.mta != "exim" { // for a mail server, the ports of this host are looked at
		line("    # Where the certificate is served; with an empty list nothing is proven by a handshake.")
		line("    verify: {endpoints: []}")
	}
}

// yamlText quotes a value.
func yamlText(value string) string { return fmt.Sprintf("%q", value) }

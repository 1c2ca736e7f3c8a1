package setup

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// text returns the configuration, with comments for a person who sees it for the first time.
func (a *Answers) text() string {
	var y strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&y, format+"\n", values...) }
	line("# Configuration of mxcert, written by mxcert init. All settings: mxcert config example, man mxcert.yaml")
	line("# After a change: mxcert check. A running daemon loads the new configuration.")
	line("acme:")
	if a.Email != "" {
		line("  email: %q", a.Email)
	}
	line("  agree_tos: true            # you have read the CA's terms of service and agree to them")
	line("  directory: %q", a.Directory)
	if a.CAFile != "" {
		line("  ca_file: %q", a.CAFile)
	}
	line("")
	a.dnsText(line)
	line("")
	line("certificates:")
	line("  - name: mx")
	line("    # The first is the name that senders use: the one in the MX record.")
	line("    domains: [%s]", strings.Join(a.Domains, ", "))
	a.targetText(line)
	return y.String()
}

// dnsText writes the section about the DNS provider.
func (a *Answers) dnsText(line func(string, ...any)) {
	line("# How the TXT records of the challenges are written. `mxcert providers %s` explains the variables.", a.Provider)
	line("dns:")
	line("  provider: %s", a.Provider)
	if len(a.Env) > 0 {
		line("  env:")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Env)) {
		line("    %s: %q", name, a.Env[name])
	}
	var resolvers []string
	for _, r := range a.Resolvers {
		resolvers = append(resolvers, fmt.Sprintf("%q", r))
	}
	if len(resolvers) > 0 {
		line("  resolvers: [%s]", strings.Join(resolvers, ", "))
	}
}

// targetText writes where the certificate goes and where it is served.
func (a *Answers) targetText(line func(string, ...any)) {
	if a.MailServer == none {
		line("    # mxcert only issues the certificate, and deploys nothing.")
		line("    verify: {endpoints: []}")
		return
	}
	line("    deploy:")
	line("      - %s:", a.MailServer)
	if a.Certificate == a.Key {
		line("          combined: %s", a.Certificate)
	} else {
		line("          certificate: %s", a.Certificate)
		line("          private_key: %s", a.Key)
	}
	if a.Unit != "" {
		line("          unit: %s", a.Unit)
	}
	if a.MailServer == exim && strings.HasPrefix(a.Key, "/etc/") {
		line("          # Exim opens its key after it has dropped root.")
		line("          group: Debian-exim")
	}
	if a.MailServer != exim { // for a mail server, mxcert looks at the ports of this host
		line("    # Where the certificate is served. With an empty list mxcert cannot prove it by a handshake.")
		line("    verify: {endpoints: []}")
	}
}

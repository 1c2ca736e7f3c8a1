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
	if a.EABKeyID != "" {
		line("  eab: {kid: %q, hmac_key: %q}", a.EABKeyID, a.EABKey)
	}
	if a.CAFile != "" {
		line("  ca_file: %q", a.CAFile)
	}
	line("")
	a.dnsText(line)
	line("")
	line("certificates:")
	line("  - name: mx")
	line("    # The first is the name that senders use: the one in the MX record.")
	line("    domains: [%s]", listed(a.Domains))
	if len(a.MailDomains) > 0 {
		line("    # The MX host names of these domains that are this host follow DNS: mxcert adds and drops them.")
		line("    mail_domains: [%s]", listed(a.MailDomains))
	}
	if !slices.Equal(a.Keys, []string{ec256}) && len(a.Keys) > 0 {
		line("    # The types of key that the mail server has today.")
		line("    keys: [%s]", strings.Join(a.Keys, ", "))
	}
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
	if len(a.Targets) == 0 {
		line("    # mxcert only issues the certificate, and deploys nothing.")
		line("    verify: {endpoints: []}")
		return
	}
	line("    deploy:")
	for _, t := range a.Targets {
		line("      - %s:", t.Kind)
		a.pathText(t, line)
		if t.Unit != "" {
			line("          unit: %s", scalar(t.Unit))
		}
		if t.Group != "" {
			line("          # Exim opens its key after it has dropped root.")
			line("          group: %s", scalar(t.Group))
		}
	}
	switch {
	case a.Targets[0].Kind == files:
		line("    # Where the certificate is served. With an empty list mxcert cannot prove it by a handshake.")
		line("    verify: {endpoints: []}")
	case a.Endpoints != nil:
		var list []string
		for _, endpoint := range a.Endpoints {
			list = append(list, fmt.Sprintf("%q", endpoint))
		}
		line("    # Where the certificate must be seen before it counts as in service.")
		line("    verify: {endpoints: [%s]}", strings.Join(list, ", "))
	}
}

// pathText writes the files of a target: one with both, or two, or lists of them in the order of the keys.
func (a *Answers) pathText(t Target, line func(string, ...any)) {
	var certificates, keys, templates []string
	for i, p := range t.Pairs {
		certificates, keys = append(certificates, scalar(p.Certificate)), append(keys, scalar(p.Key))
		template := p.Certificate
		if len(a.Keys) > 1 {
			template = strings.Replace(template, a.Keys[i], "{key}", 1)
		}
		templates = append(templates, template)
	}
	if slices.Equal(certificates, keys) {
		line("          combined: %s", scalar(templates[0]))
		return
	}
	line("          certificate: %s", listOf(certificates))
	line("          private_key: %s", listOf(keys))
}

// listed writes the elements of a list.
func listed(list []string) string {
	quoted := make([]string, len(list))
	for i, element := range list {
		quoted[i] = scalar(element)
	}
	return strings.Join(quoted, ", ")
}

func listOf(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// scalar quotes a text if YAML would read it as something else.
func scalar(text string) string {
	for _, r := range text {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-@", r) {
			return fmt.Sprintf("%q", text)
		}
	}
	if strings.Trim(text, "0123456789.") == "" || strings.HasPrefix(text, "@") || strings.HasPrefix(text, "-") {
		return fmt.Sprintf("%q", text)
	}
	return text
}

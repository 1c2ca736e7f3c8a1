package lab

import (
	"fmt"
	"strings"
)

// ConfigOptions are the parts of a configuration that tests change.
type ConfigOptions struct {
	Domains     []string // default mx.example.org, host7.example.org
	Optional    []string // certificates[].optional; default none
	MailDomains []string // certificates[].mail_domains; default none
	Endpoints   []string // default the SMTP server
	Profile     string   // acme.profile
	Extra       string   // further top-level YAML
}

// Config returns an mxcert.yaml for this lab: one certificate "mx" that is written to files which the SMTP server reads.
func (l *Lab) Config(opts ConfigOptions) string {
	if opts.Domains == nil {
		opts.Domains = []string{"mx.example.org", "host7.example.org"}
	}
	if opts.Endpoints == nil {
		opts.Endpoints = []string{l.SMTP.Address()}
	}
	var y strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&y, format+"\n", values...) }
	line("acme:")
	line("  email: postmaster@example.org")
	line("  agree_tos: true")
	line("  directory: %q", l.CA.DirectoryURL())
	if opts.Profile != "" {
		line("  profile: %q", opts.Profile)
	}
	line("  ca_file: %q", l.Path("ca.pem"))
	line("  roots_file: %q", l.Path("roots.pem"))
	line("dns:")
	line("  provider: rfc2136")
	line("  env:")
	line("    DNSUPDATE_NAMESERVER: %q", l.Primary.Address())
	line("    DNSUPDATE_TSIG_KEY: %q", KeyName)
	line("    DNSUPDATE_TSIG_ALGORITHM: %q", keyAlgorithm)
	line("    DNSUPDATE_TSIG_SECRET: %q", "file:"+l.Path("credentials", "tsig"))
	line("  resolvers: %s", list(l.NameServers()))
	line("  propagation: {timeout: 30s, require: all}")
	line("certificates:")
	line("  - name: mx")
	line("    domains: %s", list(opts.Domains))
	if len(opts.Optional) > 0 {
		line("    optional: %s", list(opts.Optional))
	}
	if len(opts.MailDomains) > 0 {
		line("    mail_domains: %s", list(opts.MailDomains))
	}
	line("    keys: [%s]", strings.Join(l.opts.Keys, ", "))
	certificate, privateKey := l.pair("{key}")
	line("    deploy:")
	line("      - files: {certificate: %q, private_key: %q}", certificate, privateKey)
	line("    verify: {endpoints: %s, timeout: 30s}", list(opts.Endpoints))
	line("state: %q", l.Path("state"))
	line("hooks: {directory: %q}", l.Path("hooks"))
	y.WriteString(opts.Extra)
	return y.String()
}

// pair names the files of the certificate of a key type. With one type its name is not in them.
func (l *Lab) pair(key string) (certificate, privateKey string) {
	name := "mx"
	if len(l.opts.Keys) > 1 {
		name += "." + key
	}
	return l.Path("tls", name+".crt"), l.Path("tls", name+".key")
}

// list writes a YAML flow sequence; double-quoted scalars of YAML 1.2 take the escapes of Go.
func list(values []string) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = fmt.Sprintf("%q", value)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

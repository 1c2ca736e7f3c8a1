package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// layout is a server, how the host's configuration has it read its certificate, and mxcert's target for that.
type layout struct {
	server string // exim, postfix, dovecot
	name   string // pair, combined, directory, sni_map
	target string // what mxcert's configuration says behind "SERVER:"
	script string // makes the server read it
	marks  string // of its files those whose renaming is the change, separated by spaces
}

// layouts lists what each server supports.
func layouts() []layout {
	const (
		exim    = `cd /etc/exim4; mkdir -p tls; chgrp Debian-exim tls; echo 'MAIN_TLS_CERTKEY = %s' >>exim4.conf.localmacros; `
		both    = `cat exim.key exim.crt >%[1]s; chgrp Debian-exim %[1]s; chmod 640 %[1]s; `
		postfix = `cd /etc/postfix/tls; cat mx.key mx.crt >mx.ec256.pem; chmod 600 mx.ec256.pem; postconf -e `
		dovecot = `cd /etc/dovecot; cat tls/mx.key tls/mx.crt >tls/mx.ec256.pem; chmod 600 tls/mx.ec256.pem; `
		first   = `mkdir tls/mx.generations tls/mx.generations/first; `
	)
	reads := `printf 'ssl_cert = <%s\nssl_key = <%s\n' >>local.conf; `
	if mailhost.DefaultRelease() != mailhost.Debian12 { // Dovecot 2.4
		reads = `printf 'ssl_server_cert_file = %s\nssl_server_key_file = %s\n' >>local.conf; `
	}
	return []layout{
		{"exim", "pair", `{certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, group: Debian-exim`, `true`, "/etc/exim4/exim.crt"},
		{"exim", "combined", `{combined: "/etc/exim4/tls/{name}.{key}.pem", group: Debian-exim`,
			fmt.Sprintf(exim+both, "/etc/exim4/tls/mx.ec256.pem"), "/etc/exim4/tls/mx.ec256.pem"},
		{"exim", "directory", `{directory: /etc/exim4/tls/mx, group: Debian-exim`,
			fmt.Sprintf(exim, "/etc/exim4/tls/mx/combined.pem"), "/etc/exim4/tls/mx"},
		{"exim", "sni_map", `{combined: "/etc/exim4/tls/{name}.{key}.{serial}.pem", sni_map: /etc/exim4/tls/sni.map, group: Debian-exim`,
			fmt.Sprintf(exim, "${lookup{${lc:$tls_in_sni}}lsearch*{/etc/exim4/tls/sni.map}{$value}}"), "/etc/exim4/tls/sni.map"},

		{"postfix", "pair", `{certificate: /etc/postfix/tls/mx.crt, private_key: /etc/postfix/tls/mx.key`, `true`, "/etc/postfix/tls/mx.crt"},
		{"postfix", "combined", `{combined: "/etc/postfix/tls/{name}.{key}.pem"`,
			postfix + `smtpd_tls_chain_files=/etc/postfix/tls/mx.ec256.pem`, "/etc/postfix/tls/mx.ec256.pem"},
		{"postfix", "directory", `{directory: /etc/postfix/tls/mx`, postfix + `smtpd_tls_chain_files=/etc/postfix/tls/mx/combined.pem`, "/etc/postfix/tls/mx"},
		{"postfix", "sni_map", `{combined: "/etc/postfix/tls/{name}.{key}.pem", sni_map: "hash:/etc/postfix/sni"`,
			postfix + `smtpd_tls_chain_files=/etc/postfix/tls/mx.ec256.pem tls_server_sni_maps=hash:/etc/postfix/sni; umask 077; touch ../sni; postmap -F hash:/etc/postfix/sni`, "/etc/postfix/sni.db"},

		{"dovecot", "pair", `{certificate: /etc/dovecot/tls/mx.crt, private_key: /etc/dovecot/tls/mx.key`, `true`, "/etc/dovecot/tls/mx.crt"},
		{"dovecot", "combined", `{combined: "/etc/dovecot/tls/{name}.{key}.pem"`,
			dovecot + fmt.Sprintf(reads, "/etc/dovecot/tls/mx.ec256.pem", "/etc/dovecot/tls/mx.ec256.pem"), "/etc/dovecot/tls/mx.ec256.pem"},
		{"dovecot", "directory", `{directory: /etc/dovecot/tls/mx`, dovecot + first + `cp tls/mx.crt tls/mx.generations/first/fullchain.pem; cp tls/mx.key tls/mx.generations/first/privkey.pem; ` +
			`ln -s mx.generations/first tls/mx; ` + fmt.Sprintf(reads, "/etc/dovecot/tls/mx/fullchain.pem", "/etc/dovecot/tls/mx/privkey.pem"), "/etc/dovecot/tls/mx"},
	}
}

func findLayout(t *testing.T, server, name string) layout {
	t.Helper()
	for _, l := range layouts() {
		if l.server == server && l.name == name {
			return l
		}
	}
	t.Fatalf("no layout %s of %s", name, server)
	return layout{}
}

// host is the package that the server comes with.
func (l layout) host() mailhost.Server {
	if l.server == "exim" {
		return mailhost.Exim
	}
	return mailhost.Postfix
}

// endpoints are where the server has to show its certificate.
func endpoints(server string) []string {
	ports := map[string][]string{"exim": {"25"}, "postfix": {"25", "465", "587"}, "dovecot": {"143", "993"}}[server]
	var list []string
	for _, port := range ports {
		list = append(list, "127.0.0.1:"+port, "[::1]:"+port)
	}
	return list
}

// serversConfig is hostConfig with other targets, one a line, and the endpoints of the servers.
func serversConfig(targets string, servers ...string) string {
	var list []string
	for _, server := range servers {
		list = append(list, endpoints(server)...)
	}
	before, _, _ := strings.Cut(hostConfig, "      - exim:")
	return before + targets + "    verify: {endpoints: [\"" + strings.Join(list, "\", \"") + "\"], timeout: 60s}\n"
}

// line is the target in mxcert's configuration.
func (l layout) line(reload string) string {
	return fmt.Sprintf("      - %s: %s, reload: %s}\n", l.server, l.target, reload)
}

// lay makes the servers of a host read these layouts, and starts them anew.
func (s *story) lay(list ...layout) {
	s.t.Helper()
	for _, l := range list {
		must(s.t, s.Host, "sh", "-ec", l.script)
		must(s.t, s.Host, "systemctl", "restart", unitOf(l.server))
	}
	for _, l := range list {
		for _, address := range endpoints(l.server) {
			s.check(s.AwaitPort(s.t.Context(), address))
		}
	}
}

// unitOf is the unit that an administrator names.
func unitOf(server string) string {
	return map[string]string{"exim": "exim4.service", "postfix": "postfix.service", "dovecot": "dovecot.service"}[server]
}

// workerOf is the unit that does the work: postfix.service of Debian 12 does nothing.
func workerOf(server string) string {
	if server == "postfix" && mailhost.DefaultRelease() == mailhost.Debian12 {
		return "postfix@-.service"
	}
	return unitOf(server)
}

// beginWith is a story on a host whose servers read these layouts.
func beginWith(t *testing.T, reload string, list ...layout) *story {
	t.Helper()
	var targets string
	var servers []string
	for _, l := range list {
		targets += l.line(reload)
		servers = append(servers, l.server)
	}
	s := begin(t, options{server: list[0].host(), config: serversConfig(targets, servers...), validity: 90 * 24 * time.Hour})
	s.lay(list...)
	return s
}

package judges

import (
	"context"
	"fmt"
	"strings"

	"mxcert/packaging/e2e/world"
)

// The servers of Debian: one Postfix and one Exim serve all their rows, each row on an address of its own with its own certificate.
const postfixServer = `compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = server.receiver.example
mydestination =
mynetworks = 0.0.0.0/0
inet_protocols = ipv4
local_recipient_maps =
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_end_of_data_restrictions = check_client_access static:discard
smtpd_peername_lookup = no
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = may
smtpd_tls_session_cache_database =
smtpd_tls_loglevel = 1
`

// postfixServices are those that every Postfix needs.
const postfixServices = `postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
`

const eximServer = `primary_hostname = server.receiver.example
local_interfaces = <; %s
spool_directory = /var/spool/exim4-server
log_file_path = /var/log/exim4/server-%%slog
smtp_accept_max = 100
smtp_accept_max_per_host = 100
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = accept
acl_smtp_data = discard
CERTIFICATE = /etc/judges/$received_ip_address.pem
SECOND = /etc/judges/$received_ip_address-2.pem
tls_certificate = ${if exists{SECOND}{CERTIFICATE : SECOND}{CERTIFICATE}}
tls_advertise_hosts = ${if exists{/etc/judges/$received_ip_address-plain}{:}{*}}
tls_require_ciphers = ${lookup{$received_ip_address}lsearch{/etc/judges/ciphers}{$value}{NORMAL}}
begin routers
begin transports
`

// files are the PEM files of a seat: a key and what is sent with it.
func (s *seat) files() (map[string]string, error) {
	files := map[string]string{}
	for i, l := range s.leaves {
		key, err := keyPEM(l.key)
		if err != nil {
			return nil, err
		}
		text := key
		for j, der := range s.chain {
			if j == 0 && i > 0 {
				der = l.der
			}
			text += pemOf("CERTIFICATE", der)
		}
		files[[]string{".pem", "-2.pem"}[i]] = text
	}
	return files, nil
}

// serveMail starts the servers of all seats on the receiver.
func serveMail(ctx context.Context, w *world.World, seats []*seat) error {
	if err := w.Receiver.AddAddress("203.0.113.254/24"); err != nil {
		return err
	}
	for _, s := range seats {
		if err := w.Receiver.AddAddress(s.ip + "/24"); err != nil {
			return err
		}
	}
	if err := servePostfix(ctx, w.Receiver.In(world.Postfix), seats); err != nil {
		return fmt.Errorf("the Postfix that serves: %w", err)
	}
	if err := serveExim(ctx, w.Receiver.In(world.Exim), seats); err != nil {
		return fmt.Errorf("the Exim that serves: %w", err)
	}
	return nil
}

func servePostfix(ctx context.Context, h *world.Host, seats []*seat) error {
	master, last, maps := postfixServices, "", ""
	for _, s := range seats {
		if s.server != "" && s.server != "postfix" {
			continue
		}
		files, err := s.files()
		if err != nil {
			return err
		}
		stem := "/etc/judges/" + s.id
		for suffix, text := range files {
			if err := h.Write(stem+suffix, text, 0o600); err != nil {
				return err
			}
		}
		chains := stem + ".pem"
		options := s.set
		switch {
		case s.sni != "":
			chains = ""
			maps += fmt.Sprintf("postmap -F hash:%s.sni; ", stem)
			options = append(options, "tls_server_sni_maps=hash:"+stem+".sni")
			if err := h.Write(stem+".sni", s.fill(s.sni)+" "+stem+".pem\n", 0o600); err != nil {
				return err
			}
			if s.second != nil {
				chains = stem + "-2.pem"
			}
		case s.second != nil:
			chains += "," + stem + "-2.pem"
		}
		master += fmt.Sprintf("%s:25 inet n - n - - smtpd\n  -o smtpd_tls_chain_files=%s\n", s.ip, chains)
		for _, option := range options {
			master += "  -o " + s.fill(option) + "\n"
		}
		last = s.ip
	}
	if last == "" {
		return nil
	}
	if err := startPostfix(ctx, h, postfixServer, master, maps); err != nil {
		return err
	}
	return h.AwaitPort(ctx, last+":25")
}

// startPostfix writes a configuration and starts its master.
func startPostfix(ctx context.Context, h *world.Host, main, master, before string) error {
	for path, text := range map[string]string{"/etc/postfix/main.cf": main, "/etc/postfix/master.cf": master} {
		if err := h.Write(path, text, 0o644); err != nil {
			return err
		}
	}
	r, err := h.Run(ctx, "sh", "-c", before+"postfix start")
	if err == nil && r.Code != 0 {
		log, _ := h.Read("/var/log/postfix.log")
		err = fmt.Errorf("postfix start: exit status %d\n%s%s%s", r.Code, r.Stdout, r.Stderr, log)
	}
	return err
}

func serveExim(ctx context.Context, h *world.Host, seats []*seat) error {
	var addresses []string
	ciphers := ""
	for _, s := range seats {
		if s.server != "exim" {
			continue
		}
		addresses = append(addresses, s.ip)
		files, err := s.files()
		if err != nil {
			return err
		}
		for _, option := range s.set {
			switch what, value, _ := strings.Cut(option, "="); what {
			case "ciphers":
				ciphers += s.ip + ": " + value + "\n"
			case "plain":
				files["-plain"] = ""
			case "unreadable":
				delete(files, ".pem")
			default:
				return fmt.Errorf("%s: Exim has no option %q here", s.id, option)
			}
		}
		for suffix, text := range files {
			if err := h.Write("/etc/judges/"+s.ip+suffix, text, 0o644); err != nil {
				return err
			}
		}
	}
	if addresses == nil {
		return nil
	}
	for path, text := range map[string]string{
		"/etc/judges/ciphers": ciphers, "/etc/judges/exim.conf": fmt.Sprintf(eximServer, strings.Join(addresses, " ; ")),
	} {
		if err := h.Write(path, text, 0o644); err != nil {
			return err
		}
	}
	if _, err := h.Must(ctx, "install", "-d", "-o", "Debian-exim", "/var/spool/exim4-server", "/var/log/exim4"); err != nil {
		return err
	}
	p, err := h.Start("exim4", "-bdf", "-C", "/etc/judges/exim.conf")
	if err != nil {
		return err
	}
	if err := h.AwaitPort(ctx, addresses[len(addresses)-1]+":25"); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Output())
	}
	return nil
}

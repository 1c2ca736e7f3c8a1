package relays

import (
	"fmt"
	"strings"
	"time"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/packaging/e2e/world"
)

// The account that both relays know.
const (
	user     = "mxcert"
	password = "Pa55:of-the=relay"
)

// The seats of a relay: each has an address and a certificate of its own, and is called SEAT.postfix.example or SEAT.exim.example.
const (
	good     = "good"     // of the CA that the sender trusts
	named    = "named"    // the same, for another name
	expired  = "expired"  // since yesterday
	stranger = "stranger" // of a CA that the sender does not trust
	plain    = "plain"    // no STARTTLS, but it takes a password without it
	old      = "old"      // of logins only LOGIN
)

var seats = []string{good, named, expired, stranger, plain, old}

// address is that of a seat on the receiver.
func address(server, seat string) string {
	base := map[string]int{"postfix": 10, "exim": 30}[server]
	for i, s := range seats {
		if s == seat {
			return fmt.Sprintf("203.0.113.%d", base+i)
		}
	}
	panic(seat)
}

const postfixMain = `compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_auth_enable = yes
smtpd_tls_auth_only = yes
smtpd_tls_security_level = encrypt
smtpd_helo_required = yes
smtpd_helo_restrictions = reject_non_fqdn_helo_hostname, reject_invalid_helo_hostname
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ {later@elsewhere.example = 450 4.2.0 Greylisted, come back later} {nobody@elsewhere.example = 550 5.1.1 Nobody of that name} }
virtual_mailbox_domains = elsewhere.example
virtual_mailbox_base = /srv/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

const postfixServices = `postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
`

// dovecot checks passwords for Postfix. mxcert uses SCRAM-SHA-256, if it is offered; Exim offers PLAIN and LOGIN.
const dovecot = `protocols =
auth_mechanisms = scram-sha-256 plain login
log_path = /var/log/dovecot.log
ssl = no
passdb {
  driver = static
  args = password=` + password + `
}
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0666
  }
}
`

// eximBox delivers every mail into one directory.
const eximBox = `begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = /srv/mail/box
  maildir_format
  user = Debian-exim
`

const eximConf = `primary_hostname = exim.example
local_interfaces = <; %s
daemon_smtp_ports = 587 : 465
tls_on_connect_ports = 465
spool_directory = /var/spool/exim4-relay
log_file_path = /var/log/exim4/relay-%%slog
log_selector = +smtp_no_mail +smtp_protocol_error
smtp_accept_max = 100
smtp_accept_max_per_host = 100
smtp_enforce_sync = true
host_lookup =
rfc1413_hosts =
SEAT = /etc/relays/$received_ip_address
tls_certificate = SEAT.pem
tls_advertise_hosts = ${if exists{SEAT-plain}{:}{*}}
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
mail:
  deny !authenticated = *
       message = 5.7.0 Log in first
  accept
rcpt:
  defer local_parts = later
        condition = ${if !exists{/etc/relays/known}}
        message = 4.2.0 Greylisted, come back later
  deny local_parts = nobody
       message = 5.1.1 Nobody of that name
  accept
data:
  deny condition = ${if match{$recipients}{spam}}
       message = 5.7.1 This looks like spam
  accept
` + eximBox + `begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{USER}}{eq{$auth3}{PASSWORD}}}}
  server_set_id = $auth2
  server_advertise_condition = ${if and{{!exists{SEAT-old}}{or{{def:tls_in_cipher}{exists{SEAT-plain}}}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{USER}}{eq{$auth2}{PASSWORD}}}}
  server_set_id = $auth1
  server_advertise_condition = ${if or{{def:tls_in_cipher}{exists{SEAT-plain}}}}
`

// serve starts both relays on the receiver.
func (w *town) serve() {
	w.t.Helper()
	known, unknown := issuer.New(w.t), issuer.New(w.t)
	w.known, w.unknown = known, unknown
	hosts := "127.0.0.1 localhost\n"
	for _, server := range []string{"postfix", "exim"} {
		h := w.relay(server)
		for _, seat := range seats {
			name, ip := seat+"."+server+".example", address(server, seat)
			hosts += ip + " " + name + "\n"
			w.check(h.AddAddress(ip + "/24"))
			ca, life, of := known, 90*24*time.Hour, name
			switch seat {
			case named:
				of = "other.example"
			case expired:
				life = -24 * time.Hour
			case stranger:
				ca = unknown
			}
			b := ca.Issue(w.t, life, of, ip, "relay.example")
			w.check(h.Write("/etc/relays/"+ip+".pem", string(b.KeyPEM())+string(b.FullchainPEM()), 0o644))
			if seat == plain || seat == old {
				w.check(h.Write("/etc/relays/"+ip+"-"+seat, "", 0o644))
			}
		}
		w.must(h, "install", "-d", "-m", "0777", "/srv/mail")
	}
	w.hosts = hosts
	w.servePostfix()
	w.serveExim()
}

// relay is the host with the root tree of a server.
func (w *town) relay(server string) *world.Host {
	return w.Receiver.In(map[string]world.Tree{"postfix": world.Postfix, "exim": world.Exim}[server])
}

func (w *town) servePostfix() {
	w.t.Helper()
	h, master := w.relay("postfix"), postfixServices
	for _, seat := range seats {
		ip, options := address("postfix", seat), "  -o smtpd_tls_chain_files=/etc/relays/%s.pem\n"
		if seat == plain {
			options = "  -o smtpd_tls_security_level=none -o smtpd_tls_auth_only=no\n"
		}
		if strings.Contains(options, "%s") {
			options = fmt.Sprintf(options, ip)
		}
		master += fmt.Sprintf("%s:587 inet n - n - - smtpd\n%s", ip, options)
		if seat != plain {
			master += fmt.Sprintf("%s:465 inet n - n - - smtpd\n%s  -o smtpd_tls_wrappermode=yes\n", ip, options)
		}
	}
	for path, text := range map[string]string{"/etc/postfix/main.cf": postfixMain, "/etc/postfix/master.cf": master, "/etc/dovecot/relay.conf": dovecot} {
		w.check(h.Write(path, text, 0o644))
	}
	p, err := h.Start("dovecot", "-F", "-c", "/etc/dovecot/relay.conf")
	w.check(err)
	w.t.Cleanup(func() { w.tell("dovecot", p.Output()) })
	w.within(10*time.Second, "Dovecot answers Postfix", func() bool {
		r, err := h.Run(w.t.Context(), "test", "-S", "/var/spool/postfix/private/auth")
		return err == nil && r.Code == 0
	})
	w.must(h, "postfix", "start")
	w.check(h.AwaitPort(w.t.Context(), address("postfix", seats[len(seats)-1])+":465"))
}

func (w *town) serveExim() {
	w.t.Helper()
	h := w.relay("exim")
	var addresses []string
	for _, seat := range seats {
		addresses = append(addresses, address("exim", seat))
	}
	text := strings.NewReplacer("USER", user, "PASSWORD", password).Replace(fmt.Sprintf(eximConf, strings.Join(addresses, " ; ")))
	w.check(h.Write("/etc/relays/exim.conf", text, 0o644))
	w.must(h, "install", "-d", "-o", "Debian-exim", "/var/spool/exim4-relay", "/var/log/exim4")
	p, err := h.Start("exim4", "-bdf", "-C", "/etc/relays/exim.conf")
	w.check(err)
	w.t.Cleanup(func() { w.tell("exim", p.Output()) })
	w.check(h.AwaitPort(w.t.Context(), addresses[len(addresses)-1]+":465"))
}

// log is what a relay has logged.
func (w *town) log(server string) string {
	path := map[string]string{"postfix": "/var/log/postfix.log", "exim": "/var/log/exim4/relay-mainlog"}[server]
	text, _ := w.relay(server).Read(path) // none yet
	return text
}

package judges

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"mxcert/packaging/e2e/world"
)

// postfixLevels are smtp_tls_security_level of Postfix's deliveries, and the local part of their recipients.
var postfixLevels = []string{"may", "dane", "dane-only", "secure"}

// The sessions are not reused and one failure does not hide the next.
const postfixSender = `compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = sender.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = 192.0.2.10
smtp_dns_support_level = dnssec
smtp_tls_CAfile = /etc/judges/anchors.pem
smtp_tls_loglevel = 1
smtp_tls_session_cache_database =
smtp_tls_connection_reuse = no
smtp_connection_cache_on_demand = no
smtp_connect_timeout = 15s
smtp_helo_timeout = 15s
smtp_starttls_timeout = 15s
smtp_tls_secure_cert_match = nexthop, dot-nexthop, hostname
default_destination_concurrency_failed_cohort_limit = 0
default_destination_recipient_limit = 1
transport_maps = regexp:/etc/postfix/transport
smtp_host_lookup = dns
qmgr_message_active_limit = 20000
minimal_backoff_time = 3000s
`

// postfixDelivers sends a mail to each row at each level and returns, by recipient, what became of it.
func postfixDelivers(ctx context.Context, h *world.Host, seats []*seat) (map[string]string, error) {
	master, transport := postfixServices, ""
	for _, level := range postfixLevels {
		master += fmt.Sprintf("%s unix - - n - 12 smtp\n  -o syslog_name=postfix/%[1]s\n  -o smtp_tls_security_level=%[1]s\n", level)
		transport += fmt.Sprintf("/^%s@/ %[1]s:\n", level)
	}
	if err := h.Write("/etc/postfix/transport", transport, 0o644); err != nil {
		return nil, err
	}
	if err := startPostfix(ctx, h, postfixSender, master, "postfix stop 2>/dev/null; rm -f /var/log/postfix.log; "); err != nil {
		return nil, fmt.Errorf("the Postfix that sends: %w", err)
	}
	var recipients []string
	for _, s := range seats {
		for _, level := range postfixLevels {
			recipients = append(recipients, level+"@"+s.mailDomain())
		}
	}
	for part := range slices.Chunk(recipients, 100) {
		argv := append([]string{"sendmail", "-i", "-f", ""}, part...)
		if r, err := h.RunInput(ctx, "Subject: a case\n\nIt is.\n", argv...); err != nil || r.Code != 0 {
			return nil, fmt.Errorf("sendmail: %w: %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
		}
	}
	outcomes, quiet := map[string]string{}, 0
	for {
		log, err := h.Read("/var/log/postfix.log")
		if err != nil {
			return nil, err
		}
		before := len(outcomes)
		outcomes = readPostfixLog(log)
		if quiet++; len(outcomes) > before {
			quiet = 0
		}
		if len(outcomes) == len(recipients) {
			return outcomes, nil
		}
		if quiet == 200 {
			return outcomes, missingOf(recipients, outcomes)
		}
		select {
		case <-ctx.Done():
			return outcomes, errors.Join(ctx.Err(), missingOf(recipients, outcomes))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func missingOf(recipients []string, outcomes map[string]string) error {
	var missing []string
	for _, r := range recipients {
		if outcomes[r] == "" {
			missing = append(missing, r)
		}
	}
	return fmt.Errorf("no outcome for %d recipients: %.10q", len(missing), missing)
}

var (
	postfixTLS    = regexp.MustCompile(`/smtp\[(\d+)\]: (Verified|Trusted|Untrusted|Anonymous) TLS connection established`)
	postfixStatus = regexp.MustCompile(`/(?:smtp|error|bounce)\[(\d+)\]: \w+: to=<([^>]+)>, .* status=(sent|deferred|bounced) \((.*)\)`)
)

// statuses are Postfix's words about a server.
var statuses = map[string]string{"Verified": "V", "Trusted": "T", "Untrusted": "U", "Anonymous": "U"}

// readPostfixLog reads outcomes by recipient. A session has one recipient, so a line about TLS belongs to the next status of its process.
func readPostfixLog(log string) map[string]string {
	outcomes, session := map[string]string{}, map[string]string{}
	for line := range strings.Lines(log) {
		if m := postfixTLS.FindStringSubmatch(line); m != nil {
			session[m[1]] = statuses[m[2]]
			continue
		}
		m := postfixStatus.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		what := map[string]string{"sent": or(session[m[1]], "C"), "deferred": "D", "bounced": "B"}[m[3]]
		outcomes[m[2]] = what
		delete(session, m[1])
	}
	return outcomes
}

// eximVariants are Exim's kinds of delivery, with what its transport asks for.
var eximVariants = []struct{ name, options string }{
	{"try", "hosts_try_dane = *"},
	{"require", "hosts_require_dane = *"},
	{"verify", "hosts_try_dane =\nhosts_require_tls = *\ntls_verify_hosts = *"},
}

const eximSender = `primary_hostname = sender.example
spool_directory = /var/spool/exim4-%[1]s
log_file_path = /var/log/exim4/%[1]s-%%slog
log_selector = +tls_certificate_verified +dnssec
tls_advertise_hosts =
keep_environment =
dns_dnssec_ok = 1
remote_max_parallel = 12
disable_ipv6 = true
dns_retrans = 4s
begin routers
mx:
driver = dnslookup
transport = smtp
dnssec_request_domains = *
begin transports
smtp:
driver = smtp
max_rcpt = 1
interface = 192.0.2.10
connect_timeout = 15s
command_timeout = 15s
tls_verify_certificates = /etc/judges/anchors.pem
hosts_try_fastopen =
dnssec_request_domains = *
%[2]s
begin retry
* * F,1h,1h
`

// eximDelivers sends a mail to each row by one kind of transport and returns, by domain, what became of it.
func eximDelivers(ctx context.Context, h *world.Host, seats []*seat, name, options string) (map[string]string, error) {
	// Without trust-ad, glibc takes the AD bit away, and Exim sees nothing but insecure answers.
	if err := h.Write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions edns0 trust-ad\n", 0o644); err != nil {
		return nil, err
	}
	file := "/etc/judges/exim-" + name + ".conf"
	if err := h.Write(file, fmt.Sprintf(eximSender, name, options), 0o644); err != nil {
		return nil, err
	}
	if _, err := h.Must(ctx, "install", "-d", "-o", "Debian-exim", "/var/spool/exim4-"+name, "/var/log/exim4"); err != nil {
		return nil, err
	}
	argv := []string{"exim4", "-C", file, "-odi", "-oi", "-f", "<>"}
	for _, s := range seats {
		argv = append(argv, "a@"+s.mailDomain())
	}
	if r, err := h.RunInput(ctx, "Subject: a case\n\nIt is.\n", argv...); err != nil || r.Code != 0 {
		return nil, fmt.Errorf("exim: %w: %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	log, err := h.Read("/var/log/exim4/" + name + "-mainlog")
	if err != nil {
		return nil, err
	}
	outcomes := map[string]string{}
	for _, m := range eximStatus.FindAllStringSubmatch(log, -1) {
		outcomes[m[2]] = eximOutcome(m[1], m[3])
	}
	if len(outcomes) != len(seats) {
		return outcomes, fmt.Errorf("exim, %s: %d outcomes of %d\n%s", name, len(outcomes), len(seats), log)
	}
	return outcomes, nil
}

var eximStatus = regexp.MustCompile(`(?m) (=>|->|==|\*\*) a@([^\s:]+)[: ](.*)$`)

func eximOutcome(sign, rest string) string {
	switch {
	case sign == "==":
		return "D"
	case sign == "**":
		return "B"
	case strings.Contains(rest, " CV=dane"):
		return "V"
	case strings.Contains(rest, " CV=yes"):
		return "T"
	case strings.Contains(rest, " X="):
		return "U"
	}
	return "C"
}

package dane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"strings"
	"sync"
	"time"

	"mxcert/packaging/e2e/world"
)

// The sender that counts. Sessions are not reused, TLS sessions are not resumed, and one failure does not hide the next: each delivery asks
// DNS and shakes hands.
const postfixMain = `compatibility_level = 3.6
maillog_file = /var/log/postfix.log
myhostname = sender.example
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = 192.0.2.10
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_security_level = dane-only
smtp_tls_loglevel = 1
smtp_tls_session_cache_database =
smtp_tls_connection_reuse = no
smtp_connection_cache_on_demand = no
smtp_connect_timeout = 40s
smtp_helo_timeout = 40s
smtp_starttls_timeout = 40s
default_destination_concurrency_failed_cohort_limit = 0
default_destination_recipient_limit = 1
queue_run_delay = 3s
minimal_backoff_time = 3s
maximal_backoff_time = 5s
maximal_queue_lifetime = 5m
bounce_queue_lifetime = 0
`

const postfixMaster = `127.0.0.1:2525 inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - 50 smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
`

// senders send mail to sites until they are stopped.
type senders struct {
	town  *town
	stop  context.CancelFunc
	wait  sync.WaitGroup
	mu    sync.Mutex
	count int // mails of Postfix
	err   error

	finger tally
}

// The resolver of a sender and its answers: without trust-ad, glibc takes the AD bit away. On a busy machine an answer may take long.
const resolvConf = "nameserver %s\noptions edns0 trust-ad timeout:15 attempts:4\n"

const eximSender = `primary_hostname = sender.example
spool_directory = /var/spool/exim4-%[1]s
log_file_path = /var/log/exim4/%[1]s-%%slog
log_selector = +tls_certificate_verified +dnssec
tls_advertise_hosts =
keep_environment =
dns_dnssec_ok = 1
remote_max_parallel = 12
disable_ipv6 = true
dns_retrans = 15s
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
connect_timeout = 40s
command_timeout = 40s
hosts_try_fastopen =
dnssec_request_domains = *
hosts_require_dane = *
begin retry
* * F,1h,1s
`

// pace is how often Postfix sends to each site: once a second, and if there are many and the number of mails is not given, every two seconds.
func (w *town) pace() time.Duration {
	if len(w.sites) > 4 && os.Getenv("MXCERT_DELIVERIES") == "" {
		return 2 * time.Second
	}
	return time.Second
}

// send starts the senders: Postfix with one mail to each site at its [town.pace], posttls-finger to each in turn, and Exim to each every four seconds;
// Exim alone, through the slow resolver, to slow sites once a second.
func (w *town) send() *senders {
	w.t.Helper()
	s := &senders{town: w}
	ctx, cancel := context.WithCancel(w.t.Context())
	s.stop = cancel
	w.t.Cleanup(func() { s.stop(); s.wait.Wait() })
	w.sending = s
	w.check(errors.Join(w.Sender.Write("/etc/postfix/main.cf", postfixMain, 0o644), w.Sender.Write("/etc/postfix/master.cf", postfixMaster, 0o644)))
	_, err := w.Sender.Must(ctx, "postfix", "start")
	w.check(err)
	w.check(w.Sender.AwaitPort(ctx, "127.0.0.1:2525"))
	x := w.Sender.In(world.Exim)
	for name, address := range map[string]string{"quick": resolver, "slow": slowResolver} {
		w.check(errors.Join(x.Write("/etc/world/exim-"+name+".conf", fmt.Sprintf(eximSender, name), 0o644),
			x.Write("/etc/world/resolv-"+name, fmt.Sprintf(resolvConf, address), 0o644)))
		_, err := x.Must(ctx, "install", "-d", "-o", "Debian-exim", "/var/spool/exim4-"+name, "/var/log/exim4")
		w.check(err)
	}
	var quick, slow []string
	for _, site := range w.sites {
		if site.like != nil || site.unsent {
			continue
		}
		if site.slow {
			slow = append(slow, site.domain())
		} else {
			quick = append(quick, site.domain())
		}
	}
	if quick != nil {
		s.wait.Go(func() { s.postfix(ctx, quick) })
		s.wait.Go(func() { s.fingers(ctx, quick) })
		s.wait.Go(func() { s.exim(ctx, "quick", 4*time.Second, quick) })
	}
	if slow != nil {
		s.wait.Go(func() { s.exim(ctx, "slow", time.Second, slow) })
	}
	return s
}

// note keeps the first error of a sender, which is one of the test's own.
func (s *senders) note(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && ctx.Err() == nil && s.err == nil {
		s.err = err
	}
}

// postfix gives Postfix one mail to all domains at a time.
func (s *senders) postfix(ctx context.Context, domains []string) {
	var conn net.Conn
	var err error
	if failed := s.town.Sender.Do(func() { conn, err = net.Dial("tcp", "127.0.0.1:2525") }); failed != nil || err != nil {
		s.note(ctx, errors.Join(failed, err))
		return
	}
	client, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		s.note(ctx, err)
		return
	}
	defer client.Close()
	for tick := time.NewTicker(s.town.pace()); ctx.Err() == nil; {
		if err := submit(client, s.count, domains); err != nil {
			s.note(ctx, fmt.Errorf("postfix takes no mail: %w", err))
			return
		}
		s.count++
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func submit(client *smtp.Client, number int, domains []string) error {
	if err := client.Mail(""); err != nil {
		return err
	}
	for _, d := range domains {
		if err := client.Rcpt(fmt.Sprintf("n%d@%s", number, d)); err != nil {
			return err
		}
	}
	body, err := client.Data()
	if err != nil {
		return err
	}
	_, err = io.WriteString(body, "Subject: a mail\r\n\r\nIt is.\r\n")
	return errors.Join(err, body.Close())
}

// sendLimit is how long one run of a sender may take on a busy machine.
const sendLimit = 4 * time.Minute

// fingers asks posttls-finger about one domain after the other.
func (s *senders) fingers(ctx context.Context, domains []string) {
	for i := 0; ctx.Err() == nil; i++ {
		domain := domains[i%len(domains)]
		within, cancel := context.WithTimeout(ctx, sendLimit)
		r, err := s.town.Sender.Run(within, "posttls-finger", "-c", "-t", "40", "-T", "40", "-l", "dane-only", "-L", "summary,verbose", domain)
		cancel()
		s.note(ctx, err)
		if err == nil {
			out := r.Stdout + r.Stderr
			s.mu.Lock()
			s.finger.add(strings.Contains(out, "Verified TLS connection established"), domain, domain+": "+out)
			s.mu.Unlock()
		}
		wait(ctx, time.Second)
	}
}

// exim delivers a mail to all domains, at once and without a queue runner.
func (s *senders) exim(ctx context.Context, name string, pause time.Duration, domains []string) {
	argv := []string{"unshare", "--mount", "sh", "-c", "mount --bind /etc/world/resolv-" + name + " /etc/resolv.conf && exec \"$@\"", "sh",
		"exim4", "-C", "/etc/world/exim-" + name + ".conf", "-odi", "-oi", "-f", "<>"}
	for _, d := range domains {
		argv = append(argv, "a@"+d)
	}
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, sendLimit)
		r, err := s.town.Sender.In(world.Exim).RunInput(within, "Subject: a mail\n\nIt is.\n", argv...)
		cancel()
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("exim: exit status %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		s.note(ctx, err)
		wait(ctx, pause)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

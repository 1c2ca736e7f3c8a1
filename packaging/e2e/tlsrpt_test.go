package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/smtp"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/journal"
	"mxcert/packaging/e2e/mailhost"
)

// reportPages are the blocks of a section of mxcert-tlsrpt(7), each after the file that the page puts it into; "" if it names none.
func reportPages(t *testing.T, section string) (files map[string]string, commands []string) {
	t.Helper()
	page, err := os.ReadFile("../man/mxcert-tlsrpt.7.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n# ")
	text, _, _ = strings.Cut(text, "\n## ")
	files = map[string]string{}
	before := ""
	for i, part := range strings.Split(text, "```\n") {
		if i%2 == 0 {
			before = part
			continue
		}
		paths := regexp.MustCompile(`\*\*(/etc/[^*]+)\*\*`).FindAllStringSubmatch(before, -1)
		if len(paths) == 0 {
			commands = append(commands, part)
			continue
		}
		files[paths[0][1]] = part
	}
	for _, c := range regexp.MustCompile(`\*\*((?:systemd-tmpfiles|update-exim4.conf|postmap|postconf|systemctl)\s[^*]+)\*\*`).FindAllStringSubmatch(text, -1) {
		commands = append(commands, strings.Join(strings.Fields(strings.ReplaceAll(c[1], `\&\&`, "&&")), " "))
	}
	if !found || len(files) < 3 || len(commands) < 2 {
		t.Fatalf("%s has %d files and the commands %q", section, len(files), commands)
	}
	return files, commands
}

// documentedDrop sets up the drop directory as mxcert-tlsrpt(7) says.
func (s *story) documentedDrop(section string) {
	s.t.Helper()
	files, commands := reportPages(s.t, section)
	for path, text := range files {
		had, err := s.Get(path)
		if err != nil || !strings.HasSuffix(path, ".cf") { // the page adds to Postfix' own files
			had = nil
		}
		s.check(s.Put(path, append(had, text...), 0o644))
	}
	for _, line := range commands {
		must(s.t, s.Host, "sh", "-ec", line)
	}
}

// message is a mail with a report as senders attach it: by Google in a part of its own type, by others as any file.
func message(sender, kind, name, body string) []byte {
	var out strings.Builder
	outer := `multipart/report; report-type="tlsrpt"; boundary="b"`
	if !strings.Contains(kind, "tlsrpt") {
		outer = `multipart/mixed; boundary="b"`
	}
	fmt.Fprintf(&out, "From: noreply-smtp-tls-reporting@%[1]s\r\nTo: tlsrpt@example.org\r\nSubject: Report Domain: example.org Submitter: %[1]s Report-ID: <%[2]s>\r\nTLS-Report-Domain: example.org\r\n"+
		"TLS-Report-Submitter: %[1]s\r\nMIME-Version: 1.0\r\nContent-Type: %[3]s\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nThis is an aggregate TLS report.\r\n\r\n--b\r\nContent-Type: %[4]s; name=\"%[2]s\"\r\n"+
		"Content-Disposition: attachment; filename=\"%[2]s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", sender, name, outer, kind)
	text := base64.StdEncoding.EncodeToString([]byte(body))
	for len(text) > 76 {
		out.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	out.WriteString(text + "\r\n--b--\r\n")
	return []byte(out.String())
}

// zipped compresses a text followed by so many zeros.
func zipped(t *testing.T, text string, zeros int) string {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	block := bytes.Repeat([]byte{'0'}, 1<<20)
	for ; zeros > 0 && err == nil; zeros -= len(block) {
		_, err = w.Write(block)
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.String()
}

// submit gives a mail to the mail server by SMTP, as a sender does.
func (s *story) submit(mail []byte) error {
	s.t.Helper()
	conn, err := s.Dial(s.t.Context(), "tcp", "127.0.0.1:25")
	s.check(err)
	defer conn.Close()
	s.check(conn.SetDeadline(time.Now().Add(2 * time.Minute)))
	c, err := smtp.NewClient(conn, "mx.example.org")
	s.check(err)
	s.check(c.Hello("sender.example.com"))
	s.check(c.Mail("bounces@sender.example.com"))
	s.check(c.Rcpt("tlsrpt@example.org"))
	w, err := c.Data()
	s.check(err)
	if _, err := w.Write(mail); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// dropped lists the files of the drop directory with mode, owner and group.
func (s *story) dropped() (list []string) {
	s.t.Helper()
	return strings.Split(strings.TrimSpace(must(s.t, s.Host, "find", "/var/spool/mxcert-tlsrpt", "-type", "f", "-printf", `%m %u:%g\n`)), "\n")
}

// peak is the most memory that the daemon has used, in MiB.
func (s *story) peak() int {
	s.t.Helper()
	fields := strings.Fields(must(s.t, s.Host, "grep", "VmHWM", "/proc/"+s.property("MainPID")+"/status"))
	kib, err := strconv.Atoi(fields[1])
	s.check(err)
	return kib >> 10
}

// What senders report arrives by mail: the server is set up as mxcert-tlsrpt(7) says, takes reports by SMTP as Google and Microsoft send them,
// and the service reads them. Mails that want to do harm reach neither.
func TestReportsByMail(t *testing.T) {
	t.Parallel()
	for _, server := range []mailhost.Server{mailhost.Exim, mailhost.Postfix} {
		t.Run(string(server), func(t *testing.T) {
			t.Parallel()
			reportsByMail(t, server)
		})
	}
}

func reportsByMail(t *testing.T, server mailhost.Server) {
	config := hostConfig + "tlsrpt: {directory: /var/spool/mxcert-tlsrpt}\n"
	section, owner, larger := "Exim", "640 Debian-exim:mxcert", "echo 'MESSAGE_SIZE_LIMIT = 200M' >>/etc/exim4/conf.d/main/000_local; update-exim4.conf; systemctl reload exim4"
	if server == mailhost.Postfix {
		section, owner, larger = "Postfix", "640 tlsrpt:mxcert", "postconf -e message_size_limit=200000000 mailbox_size_limit=0; systemctl reload postfix"
		config = strings.Replace(config, "exim: {certificate: /etc/exim4/exim.crt, private_key: /etc/exim4/exim.key, unit: exim4.service, group: Debian-exim}", "postfix: {certificate: /etc/postfix/tls/mx.crt, private_key: /etc/postfix/tls/mx.key}", 1)
	}
	s := begin(t, options{service: true, config: config, server: server})
	if server == mailhost.Exim { // the layout that the page describes
		must(t, s.Host, "sh", "-ec", "sed -i s/dc_use_split_config=.*/dc_use_split_config=\\'true\\'/ /etc/exim4/update-exim4.conf.conf; cp /etc/exim4/exim4.conf.localmacros /etc/exim4/conf.d/main/000_local")
	}
	s.documentedDrop(section)
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	s.asleep()

	from := time.Now().UTC().Add(time.Second).Truncate(time.Second) // after the certificate came into service
	report := func(organization, id string) string {
		return fmt.Sprintf(`{"organization-name": %q, "report-id": %q, "date-range": {"start-datetime": %q, "end-datetime": %q}, "policies": [{"policy": {"policy-type": "sts", "policy-domain": "example.org"},
			"summary": {"total-successful-session-count": 97, "total-failure-session-count": 3},
			"failure-details": [{"result-type": "certificate-expired", "receiving-mx-hostname": "mx.example.org", "failed-session-count": 3}]}]}`,
			organization, id, from.Format(time.RFC3339), from.Add(24*time.Hour).Format(time.RFC3339))
	}
	google := message("google.com", "application/tlsrpt+gzip", "google.com!example.org!1!2.json.gz", zipped(t, report("Google Inc.", "g1"), 0))
	s.check(s.submit(google))
	s.check(s.submit(message("microsoft.com", "application/gzip", "microsoft.com!example.org!1!2.json.gz", zipped(t, report("Microsoft Corporation", "m1"), 0))))
	s.arrive(2, owner)

	must(t, s.Host, "systemctl", "reload", "mxcert.service") // it reads at once, and not within the hour
	within(t, 30*time.Second, "the service reads both reports", func() bool {
		log := must(t, s.Host, "journalctl", "-u", "mxcert", "-o", "cat", "--no-pager")
		return strings.Contains(log, "reports of senders were read") && strings.Contains(log, "Google Inc.") && strings.Contains(log, "Microsoft Corporation")
	})
	s.reported(2, from)
	before := s.peak()

	// A bomb, a mail about something else, and mails that are too large: by default the server refuses 100 MB, and takes it if it is told to.
	huge := append(append([]byte{}, google[:len(google)-len("--b--\r\n")]...), bytes.Repeat([]byte(strings.Repeat("A", 76)+"\r\n"), 100<<20/78)...)
	if err := s.submit(huge); err == nil || !strings.HasPrefix(err.Error(), "552 ") {
		t.Errorf("100 MB: %v", err)
	}
	s.check(s.submit(message("bomb.example.com", "application/tlsrpt+gzip", "bomb.json.gz", zipped(t, `{"organization-name": "Bomb", "report-id": "`, 256<<20))))
	s.check(s.submit([]byte("From: a@example.com\r\nSubject: hello\r\n\r\nhello\r\n")))
	must(t, s.Host, "sh", "-ec", larger)
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:25"))
	within(t, 30*time.Second, "the larger limit is in force", func() bool { return s.submit(huge) == nil })
	stored := 5 // Exim stores each mail; what mxcert stores has a report, or what ought to be one
	if server == mailhost.Postfix {
		stored = 3
		within(t, 60*time.Second, "Postfix' log says what was dropped", func() bool {
			log := must(t, s.Host, "sh", "-c", "journalctl -o cat --no-pager | grep 'status=sent.*the mail is not stored' || :")
			return strings.Contains(log, "there is no TLS report in it") && strings.Contains(log, "larger than 32 MiB")
		})
	}
	s.arrive(stored, owner)
	s.check(s.submit(message("late.example.com", "application/tlsrpt+gzip", "late.json.gz", zipped(t, report("Late", "l1"), 0))))
	s.arrive(stored+1, owner)
	must(t, s.Host, "systemctl", "reload", "mxcert.service")
	within(t, 60*time.Second, "the service reads what came after them", func() bool {
		return strings.Contains(must(t, s.Host, "journalctl", "-u", "mxcert", "-o", "cat", "--no-pager"), "organizations=Late")
	})
	s.reported(3, from)
	s.reportedElsewhere()
	after := s.peak()
	figure(t, "the daemon's peak of memory is %d MiB before hostile mails, %d MiB after", before, after)
	if after-before > 64 {
		t.Errorf("the daemon's memory grew from %d to %d MiB", before, after)
	}
	if queue := must(t, s.Host, "sh", "-c", map[mailhost.Server]string{mailhost.Exim: "exim4 -bpc", mailhost.Postfix: "postqueue -p | grep -c '^[0-9A-F]' || :"}[server]); strings.TrimSpace(queue) != "0" {
		t.Errorf("%s mails wait", queue)
	}
}

// arrive waits until so many mails are in the drop directory, each with this mode and owner.
func (s *story) arrive(n int, owner string) {
	s.t.Helper()
	within(s.t, 60*time.Second, fmt.Sprintf("%d mails arrive", n), func() bool { return len(s.dropped()) == n })
	for _, file := range s.dropped() {
		if file != owner {
			s.t.Errorf("a mail is %s, want %s", file, owner)
		}
	}
}

// reported reads with `mxcert tlsrpt` what so many senders report, and compares it with what is in service.
func (s *story) reported(senders int, from time.Time) {
	s.t.Helper()
	var r struct {
		Failures []struct {
			Organization, Type, Host, Certificate, State, Message string
			Ours                                                  bool
			Failed                                                int `json:"failed_sessions"`
			Generations                                           []struct{ Serial string }
		}
		Senders []struct{ Organization string }
	}
	result := s.mxcert("tlsrpt", "--json")
	s.check(json.Unmarshal([]byte(result.Stdout), &r))
	if result.Code != 3 || len(r.Senders) != senders || len(r.Failures) != senders {
		s.t.Fatalf("exit code %d, %d senders, %d failures", result.Code, len(r.Senders), len(r.Failures))
	}
	serial := s.report(0, "status").Certificates[0].Keys[0].Serial
	if text := strings.Join(strings.Fields(s.mxcert("status").Stdout), " "); !strings.Contains(text, "reported Google Inc. met certificate-expired on mx.example.org from ") || !strings.Contains(text, "that was generation ") {
		s.t.Errorf("status does not say what Google reports:\n%s", text)
	}
	for _, f := range r.Failures {
		if f.Type != "certificate-expired" || f.Host != "mx.example.org" || !f.Ours || f.Certificate != "mx" || f.State != "holds" || f.Failed != 3 || len(f.Generations) != 1 || f.Generations[0].Serial != serial {
			s.t.Errorf("from %s: %+v", from, f)
		}
	}
}

// reportedElsewhere looks for what senders report in the journal and in doctor.
func (s *story) reportedElsewhere() {
	s.t.Helper()
	entries := s.entries("-u", "mxcert", "MESSAGE_ID="+journal.IDs()[journal.ReportedFault])
	if len(entries) == 0 || entries[0]["MXCERT_SUBJECT"] != "mx.example.org" || entries[0]["PRIORITY"] != "3" || !strings.Contains(entries[0]["MESSAGE"], "that was generation ") {
		s.t.Errorf("the journal has %v", entries)
	}
	var c checkup
	s.check(json.Unmarshal([]byte(s.mxcert("doctor", "--json").Stdout), &c))
	c.expect(s.t, "ok", "tlsrpt", "/var/spool/mxcert-tlsrpt can be read")
	c.expect(s.t, "warning", "tlsrpt-certificate-expired", "Google Inc. met certificate-expired on mx.example.org")
}

package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/journal"
)

// entries returns what journalctl finds, with the fields that are text.
func (s *story) entries(args ...string) (list []map[string]string) {
	s.t.Helper()
	must(s.t, s.Host, "journalctl", "--sync")
	out := must(s.t, s.Host, append([]string{"journalctl", "-q", "--no-pager", "-o", "json"}, args...)...)
	for line := range strings.Lines(out) {
		var fields map[string]any
		s.check(json.Unmarshal([]byte(line), &fields))
		entry := map[string]string{}
		for name, value := range fields {
			if text, ok := value.(string); ok {
				entry[name] = text
			} else {
				s.t.Errorf("the field %s is not text: %v", name, value)
			}
		}
		list = append(list, entry)
	}
	return list
}

// explained counts the events that journalctl explains.
func (s *story) explained() int {
	s.t.Helper()
	return strings.Count(must(s.t, s.Host, "sh", "-c", "journalctl --list-catalog | grep -F 'mxcert: '; true"), "\n")
}

// What happens to a certificate is in the journal with fields and fixed events, from the sandbox of the daemon and from the command of the
// timer, and journalctl explains it.
func TestJournal(t *testing.T) {
	t.Parallel()
	s := begin(t, options{service: true})
	event := func(e journal.Event) string { return "MESSAGE_ID=" + journal.IDs()[e] }
	found := func(unit string, e journal.Event) map[string]string {
		t.Helper()
		var list []map[string]string
		within(t, 60*time.Second, string(e)+" in the journal of "+unit, func() bool {
			list = s.entries("-u", unit, "MXCERT_CERTIFICATE=mx", event(e))
			return len(list) > 0
		})
		return list[len(list)-1]
	}
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	s.servedByAuthority()
	s.asleep()
	first := s.report(0, "status").Certificates[0].Keys[0].Serial
	issued, served := found("mxcert", journal.Issued), found("mxcert", journal.Served)
	if issued["MXCERT_SERIAL"] != first || !strings.HasPrefix(issued["MXCERT_ORDER"], "https://127.0.0.1:14000/") || issued["_SYSTEMD_UNIT"] != "mxcert.service" ||
		issued["SYSLOG_IDENTIFIER"] != "mxcert" || issued["PRIORITY"] != "6" || issued["_TRANSPORT"] != "journal" {
		t.Errorf("issued: %v", issued)
	}
	if served["MXCERT_SERIAL"] != first || served["MXCERT_STAGE"] != "served" || served["MXCERT_ORDER"] != issued["MXCERT_ORDER"] || !strings.HasPrefix(served["MESSAGE"], "mx: certificate in service (") {
		t.Errorf("in service: %v", served)
	}
	if by := s.entries("MXCERT_SERIAL=" + first); len(by) < 2 {
		t.Errorf("%d entries by the serial", len(by))
	}

	// A failure: its error, the next step, and the explanation.
	config, err := s.Get("/etc/bind/named.conf")
	s.check(err)
	s.check(s.Put("/etc/bind/named.conf", []byte(strings.ReplaceAll(string(config), "grant mxcert. zonesub TXT TLSA;", "")), 0o644))
	must(t, s.Host, "systemctl", "restart", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))
	if r := s.mxcert("renew", "--now"); r.Code == 0 {
		t.Error("the renewal did not fail")
	}
	failed := found("mxcert", journal.ProofFailed)
	if failed["PRIORITY"] != "3" || failed["MXCERT_HINT"] == "" || !strings.Contains(failed["MESSAGE"], failed["MXCERT_ERROR"]) || failed["MXCERT_STAGE"] != "dns" || !strings.HasPrefix(failed["MXCERT_ORDER"], "https://") {
		t.Errorf("failed: %v", failed)
	}
	explained := must(t, s.Host, "journalctl", "--no-pager", "-x", "-u", "mxcert", event(journal.ProofFailed))
	if !strings.Contains(explained, "Subject: A name of mx could not be proven") || !strings.Contains(explained, "mxcert doctor mx") || !strings.Contains(explained, failed["MXCERT_HINT"]) || strings.Contains(explained, "@MXCERT") {
		t.Errorf("journalctl -x:\n%s", explained)
	}

	// The command of the timer, without a daemon.
	s.check(s.Put("/etc/bind/named.conf", config, 0o644))
	must(t, s.Host, "systemctl", "restart", "named")
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))
	must(t, s.Host, "systemctl", "stop", "mxcert.service")
	if stopping := s.entries("-u", "mxcert", event(journal.Stopping)); len(stopping) != 1 || stopping[0]["_SYSTEMD_UNIT"] != "mxcert.service" {
		t.Errorf("stopping: %v", stopping)
	}
	must(t, s.Host, "systemctl", "start", "mxcert-renew.service") // the order that failed is still due
	issued, served = found("mxcert-renew", journal.Issued), found("mxcert-renew", journal.Served)
	if served["MXCERT_SERIAL"] == first || served["MXCERT_SERIAL"] != issued["MXCERT_SERIAL"] || served["_SYSTEMD_UNIT"] != "mxcert-renew.service" || served["_TRANSPORT"] != "journal" {
		t.Errorf("of the timer: %v", served)
	}
	s.served(served["MXCERT_SERIAL"])
	s.documentedJournal()
	s.documentedPage()
	s.journalHangs()
}

// journalHangs stops journald while its queue is full. A renewal by the daemon goes on, and its entries are there when journald reads again.
func (s *story) journalHangs() {
	s.t.Helper()
	must(s.t, s.Host, "systemctl", "start", "mxcert.service")
	s.asleep()
	journald := "systemctl kill --kill-whom=main systemd-journald.service --signal="
	must(s.t, s.Host, "sh", "-ec", journald+`STOP; exec python3 -c '
import socket
held, full = [], False
while not full: # the queue is full if a socket that has sent nothing cannot send
    held.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    held[-1].setblocking(False)
    full = True
    try:
        while True:
            held[-1].sendto(b"MESSAGE=fill\n", "/run/systemd/journal/socket")
            full = False
    except BlockingIOError: pass
'`)
	renewed := s.mxcert("renew", "--now", "--json")
	must(s.t, s.Host, "sh", "-ec", "sleep 3; "+journald+"CONT") // longer than the daemon waits for the journal
	var r report
	s.check(json.Unmarshal([]byte(renewed.Stdout), &r))
	if renewed.Code != 0 || !r.Changed {
		s.t.Fatalf("renew: exit code %d", renewed.Code)
	}
	serial := r.Certificates[0].Keys[0].Serial
	s.served(serial)
	within(s.t, 60*time.Second, "the log of the renewal is in the journal", func() bool {
		log := must(s.t, s.Host, "sh", "-c", "journalctl -u mxcert -o cat --no-pager | grep -e 'certificate in service' -e 'takes no entries' || :")
		return strings.Contains(log, serial) && strings.Contains(log, "the journal takes no entries with fields")
	})
}

// documentedJournal runs the commands of mxcert(7) as they are written there.
func (s *story) documentedJournal() {
	s.t.Helper()
	page, err := os.ReadFile("../man/mxcert.7.md")
	s.check(err)
	_, section, _ := strings.Cut(string(page), "# THE JOURNAL\n")
	section, _, _ = strings.Cut(section, "\n# ")
	lines := regexp.MustCompile(`(?m)^    (journalctl .*)$`).FindAllStringSubmatch(section, -1)
	if len(lines) != 3 {
		s.t.Errorf("mxcert(7) has %d commands about the journal", len(lines))
	}
	for i, want := range []string{"mx: certificate in service", "Subject: ", "MXCERT_SERIAL="} {
		if i < len(lines) {
			if out := must(s.t, s.Host, "sh", "-c", lines[i][1]+" --no-pager"); !strings.Contains(out, want) {
				s.t.Errorf("%s: not %q:\n%s", lines[i][1], want, out)
			}
		}
	}
}

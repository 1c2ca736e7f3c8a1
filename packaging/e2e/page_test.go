package e2e

import (
	"os"
	"regexp"
	"strings"
	"time"
)

// documentedPage has the service write the page, by the commands of mxcert.service(8) as they are written there. Before them it may not write
// there: that costs a line of the journal, and no pass.
func (s *story) documentedPage() {
	s.t.Helper()
	const file = "/var/www/mxcert/index.html"
	complaints := func() (list []map[string]string) {
		for _, entry := range s.entries("-u", "mxcert", "-p", "warning") {
			if strings.HasPrefix(entry["MESSAGE"], "the page could not be written") {
				list = append(list, entry)
			}
		}
		return list
	}
	config, err := s.Get("/etc/mxcert/mxcert.yaml")
	s.check(err)
	s.check(s.Put("/etc/mxcert/mxcert.yaml", append(config, "report: {html: "+file+"}\n"...), 0o644))
	commands := s.documentedCommands("THE PAGE")
	must(s.t, s.Host, "sh", "-ec", commands[0]) // the directory alone
	must(s.t, s.Host, "systemctl", "start", "mxcert.service")
	within(s.t, 30*time.Second, "a line about the page", func() bool { return len(complaints()) > 0 })
	if r := s.mxcert("renew"); r.Code != 0 {
		s.t.Errorf("renew: exit code %d, although only the page cannot be written", r.Code)
	}
	time.Sleep(3 * time.Second) // the page would be tried after a second
	if list := complaints(); len(list) != 1 || !strings.Contains(list[0]["MESSAGE"]+list[0]["MXCERT_HINT"], "ReadWritePaths=-/var/www/mxcert") {
		s.t.Errorf("about the page the journal says %v", list)
	}

	for _, command := range commands {
		must(s.t, s.Host, "sh", "-ec", command)
	}
	stat := func() string {
		r, err := s.Run(s.t.Context(), "stat", "-c", "%U:%G %a %i", file)
		s.check(err)
		return strings.TrimSpace(r.Stdout)
	}
	within(s.t, 30*time.Second, "a page", func() bool { return stat() != "" })
	first := stat()
	text, err := s.Get(file)
	s.check(err)
	if !strings.HasPrefix(first, "mxcert:www-data 640 ") || !strings.Contains(string(text), "All is well") || !strings.Contains(string(text), "by the daemon") {
		s.t.Errorf("%s is %s:\n%s", file, first, text)
	}
	if r := s.mxcert("renew"); r.Code != 0 {
		s.t.Errorf("renew: exit code %d", r.Code)
	}
	within(s.t, 70*time.Second, "a new page after the pass", func() bool { return stat() != first })

	// A directory that is gone keeps nothing from starting.
	must(s.t, s.Host, "sh", "-ec", "rm -r /var/www/mxcert; systemctl restart mxcert.service")
	if r := s.mxcert("status", "-q"); r.Code != 0 {
		s.t.Errorf("without the directory: status ends with %d", r.Code)
	}
}

// documentedCommands are those that root runs in a section of mxcert.service(8).
func (s *story) documentedCommands(section string) (list []string) {
	s.t.Helper()
	page, err := os.ReadFile("../man/mxcert.service.8")
	s.check(err)
	_, text, _ := strings.Cut(string(page), ".SH "+section+"\n")
	text, _, _ = strings.Cut(text, "\n.SH ")
	for _, m := range regexp.MustCompile(`(?m)^ {4}# (.*)$`).FindAllStringSubmatch(text, -1) {
		list = append(list, strings.NewReplacer(`\-`, "-", `\e`, `\`).Replace(m[1]))
	}
	if len(list) != 5 {
		s.t.Fatalf("mxcert.service(8) has these commands in %s: %q", section, list)
	}
	return list
}

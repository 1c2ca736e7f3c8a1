package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// textfilePage returns what mxcert(7) tells the operator to do for the textfile: the path of the drop-in, its text, the setting, and the command.
func textfilePage(t *testing.T) (path, dropIn, setting, command string) {
	t.Helper()
	page, err := os.ReadFile("../man/mxcert.7.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n# METRICS\n")
	section, _, _ = strings.Cut(section, "\n# ")
	path = regexp.MustCompile(`/etc/systemd/system/mxcert\.service\.d/\S+\.conf`).FindString(section)
	for _, block := range regexp.MustCompile(`(?m)(?:^    .*\n)+`).FindAllString(section, -1) {
		block = strings.ReplaceAll("\n"+block, "\n    ", "\n")[1:]
		switch {
		case strings.HasPrefix(block, "[Service]\n"):
			dropIn = block
		case strings.Contains(block, "textfile: "):
			setting = block
		case strings.HasPrefix(block, "ln -s "):
			command = block
		}
	}
	if path == "" || dropIn == "" || setting == "" || command == "" {
		t.Fatalf("the page has no longer all of it: %q %q %q %q", path, dropIn, setting, command)
	}
	return path, dropIn, setting, command
}

// The textfile for node_exporter works by the drop-in of the manual page, as it is written there. A directory that the service may not write to and
// a full disk cost one line in the journal each, and check finds what can be known. The certificate is in service all the same.
func TestTextfile(t *testing.T) {
	t.Parallel()
	path, dropIn, setting, command := textfilePage(t)
	const cache, exporter = "/var/cache/mxcert-metrics", "/var/lib/prometheus/node-exporter"
	s := begin(t, options{service: true, config: hostConfig + strings.ReplaceAll(setting, cache, exporter)})
	checked := func(code int, words string) {
		t.Helper()
		if r := s.mxcert("check"); r.Code != code || !strings.Contains(r.Stdout+r.Stderr, words) {
			t.Errorf("check: exit %d, want %d and %q", r.Code, code, words)
		}
	}
	// said waits for the nth line that complains.
	said := func(n int, words string) {
		t.Helper()
		var list []string
		within(t, 60*time.Second, "complaint "+words, func() bool {
			list = nil
			for _, entry := range s.entries("-u", "mxcert", "-u", "mxcert-renew", "-p", "err") {
				if strings.Contains(entry["MESSAGE"], "textfile") {
					list = append(list, entry["MESSAGE"])
				}
			}
			return len(list) >= n
		})
		if len(list) != n || !regexp.MustCompile(words).MatchString(list[n-1]) {
			t.Errorf("the journal says %q", list)
		}
	}

	checked(0, "the directory "+exporter+" does not exist")
	must(t, s.Host, "mkdir", "-p", exporter) // as Debian's package makes it
	checked(3, "the user mxcert may not write to "+exporter)
	must(t, s.Host, "systemctl", "start", "mxcert.service")
	s.servedByAuthority()
	s.asleep()
	said(1, "permission denied|read-only file system")

	// What the page says, on a disk that is full.
	s.check(s.Put(path, []byte(dropIn), 0o644))
	s.check(s.Put(strings.Replace(path, "mxcert.service", "mxcert-renew.service", 1), []byte(dropIn), 0o644))
	s.check(s.Put("/etc/mxcert/mxcert.yaml", []byte(hostConfig+setting), 0o644))
	must(t, s.Host, "sh", "-ec", "mkdir -p "+cache+"; mount -t tmpfs -o size=64k tmpfs "+cache+"; cat /dev/zero >"+cache+"/full 2>/dev/null || true")
	must(t, s.Host, "sh", "-ec", command)
	must(t, s.Host, "systemctl", "daemon-reload")
	must(t, s.Host, "systemctl", "restart", "mxcert")
	s.asleep()
	said(2, "no space left on device")
	if left := must(t, s.Host, "ls", cache); strings.TrimSpace(left) != "full" {
		t.Errorf("%s has %s", cache, left)
	}
	checked(0, "no fault found")

	must(t, s.Host, "rm", cache+"/full")
	must(t, s.Host, "systemctl", "reload", "mxcert")
	read := func() string {
		r, err := s.Run(t.Context(), "runuser", "-u", "nobody", "--", "cat", exporter+"/mxcert.prom")
		s.check(err)
		return r.Stdout
	}
	const line = `mxcert_served_matches{certificate="mx",endpoint="127.0.0.1:25",key="ec256"} 1`
	within(t, 60*time.Second, "another user reads the numbers", func() bool { return strings.Contains(read(), line) })

	// A command writes it if no daemon runs.
	must(t, s.Host, "systemctl", "stop", "mxcert")
	must(t, s.Host, "rm", cache+"/mxcert.prom")
	must(t, s.Host, "systemctl", "start", "mxcert-renew")
	if text := read(); !strings.Contains(text, line) {
		t.Errorf("after mxcert-renew.service the file says\n%s", text)
	}
	said(2, "")
}

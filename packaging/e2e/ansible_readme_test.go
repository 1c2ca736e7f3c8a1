package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The commands of the collection's README, as they are written, with its play for this world.
func TestAnsibleReadme(t *testing.T) {
	t.Parallel()
	s := begin(t, options{bare: true})
	c := newController(t, deb(t, "1.0"), s.Host)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../ansible", name))
		s.check(err)
		return string(text)
	}
	play := read("play.yml.example")
	for _, edit := range [][2]string{{"directory: letsencrypt\n", "directory: https://127.0.0.1:14000/dir\n          ca_file: /etc/pebble/ca.pem\n          roots_file: /etc/pebble/roots.pem\n"},
		{"provider: rfc2136\n", "provider: rfc2136\n          resolvers: [\"127.0.0.1:53\"]\n"}, {"192.0.2.53:53", "127.0.0.1:53"},
		{"{{ ansible_facts.fqdn }}", "mx.example.org"}} {
		if !strings.Contains(play, edit[0]) {
			t.Fatalf("the play has no %q", edit[0])
		}
		play = strings.Replace(play, edit[0], edit[1], 1)
	}
	c.put("play.yml", play)
	c.put("hosts", fmt.Sprintf("[mail]\nmx ansible_connection=community.docker.nsenter ansible_nsenter_pid=%d ansible_python_interpreter=/usr/bin/python3 ansible_become=false vault_tsig=%s mxcert_package=%s\n", s.PID(), s.TSIGSecret, c.deb))
	packaging, err := filepath.Abs("..")
	s.check(err)
	s.check(os.Symlink(packaging, filepath.Join(c.dir, "packaging")))
	var commands []string
	for line := range strings.Lines(read("README.md")) {
		if command, ok := strings.CutPrefix(line, "    ansible"); ok {
			commands = append(commands, "ansible"+strings.TrimSpace(command))
		}
	}
	if len(commands) != 3 {
		t.Fatalf("the README has the commands %q", commands)
	}
	for _, command := range commands {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir, cmd.Env = c.dir, append(os.Environ(), "HOME="+c.dir, "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	s.servedByAuthority()
}

package discover

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The kernel's own tables, with sockets of this process.
func TestListening(t *testing.T) {
	var ports []uint16
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		ports = append(ports, netip.MustParseAddrPort(l.Addr().String()).Port())
	}
	list := Listening(ports...)
	if len(list) != 2 {
		t.Fatalf("found %+v", list)
	}
	for _, l := range list {
		if l.PID != os.Getpid() || l.Program != filepath.Base(os.Args[0]) || l.Kind != "" || !l.Address.Addr().IsLoopback() || l.Dial() != l.Address.String() {
			t.Errorf("%+v", l)
		}
		if !strings.Contains(l.String(), l.Program) {
			t.Errorf("it is called %s", l)
		}
	}
	if list := Listening(1); len(list) != 0 {
		t.Errorf("on a port where nobody listens: %+v", list)
	}
}

// proc makes a /proc with one socket.
func proc(t *testing.T, table, line, exe, cgroup string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"net/" + table: "  sl  local_address …\n" + line + "\n", "77/cgroup": cgroup, "77/comm": "comm\n", "1/cgroup": "0::/init.scope\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range [][2]string{{exe, "77/exe"}, {"socket:[4711]", "77/fd/13"}, {"socket:[4711]", "1/fd/9"}, {"/dev/null", "77/fd/0"}} {
		path := filepath.Join(dir, link[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link[0], path); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Lines and links as Debian 12 and 13 show them.
func TestListeningPrograms(t *testing.T) {
	const any4 = "   0: 00000000:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
	const any6 = "   0: 00000000000000000000000000000000:0019 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
	const established = "   0: 0100007F:0019 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
	for _, tt := range []struct {
		what, table, line, exe, cgroup string
		want                           string
	}{
		{"Exim", "tcp", any4, "/usr/sbin/exim4", "0::/system.slice/exim4.service\n", "exim exim4.service 127.0.0.1:25"},
		{"Exim after an upgrade", "tcp6", any6, "/usr/sbin/exim4 (deleted)", "0::/system.slice/exim4.service\n", "exim exim4.service [::1]:25"},
		{"Postfix", "tcp", any4, "/usr/lib/postfix/sbin/master", "0::/system.slice/system-postfix.slice/postfix@-.service\n", "postfix postfix@-.service 127.0.0.1:25"},
		{"Postfix of RHEL", "tcp", any4, "/usr/libexec/postfix/master", "0::/system.slice/postfix.service\n", "postfix postfix.service 127.0.0.1:25"},
		{"Dovecot", "tcp", any4, "/usr/sbin/dovecot", "12:pids:/x\n0::/system.slice/dovecot.service\n", "dovecot dovecot.service 127.0.0.1:25"},
		{"a container's Exim", "tcp", any4, "/usr/sbin/exim", "0::/machine.slice/systemd-nspawn@mx.service/system.slice/exim.service\n", "exim exim.service 127.0.0.1:25"},
		{"something else", "tcp", any4, "/opt/stalwart/bin/stalwart", "0::/system.slice/stalwart.service\n", " stalwart.service 127.0.0.1:25"},
		{"another master", "tcp", any4, "/usr/bin/master", "0::/user.slice/x.scope\n", "  127.0.0.1:25"},
		{"a connection", "tcp", established, "/usr/sbin/exim4", "", ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if !littleEndian() {
				t.Skip("the lines are of a little-endian machine")
			}
			got := ""
			for _, l := range listening(proc(t, tt.table, tt.line, tt.exe, tt.cgroup), []uint16{25}) {
				got += l.Kind + " " + l.Unit + " " + l.Dial()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzListenerLine(f *testing.F) {
	f.Add("   0: 00000000:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0")
	f.Add("0: 0:0 0 0A 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, line string) {
		if address, _, ok := listenerLine(line); ok && !address.IsValid() {
			t.Errorf("%q is %v", line, address)
		}
	})
}

package discover

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Listener is a program that accepts connections at an address of this host.
type Listener struct {
	Address netip.AddrPort // the unspecified address (0.0.0.0 or ::) for all of its family
	Kind    string         // exim, postfix or dovecot; "" for another program, or if it cannot be told
	Program string         // name of the program; "" if it cannot be told (only root sees it)
	PID     int            // of one of its processes; 0 if it cannot be told
	Unit    string         // of systemd, to which the process belongs; "" if it cannot be told
}

// Listening returns who listens at one of the TCP ports, as the kernel says it in /proc, sorted by port and address.
func Listening(ports ...uint16) []Listener { return listening("/proc", ports) }

func listening(proc string, ports []uint16) (list []Listener) {
	sockets := map[string]netip.AddrPort{} // by inode
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(proc, "net", table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if address, inode, ok := listenerLine(line); ok && slices.Contains(ports, address.Port()) {
				sockets[inode] = address
			}
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	owners := ownersOf(proc, sockets)
	for inode, address := range sockets {
		l := Listener{Address: address, PID: owners[inode]}
		if l.PID != 0 {
			l.Program, l.Kind = programOf(proc, l.PID)
			l.Unit = unitOf(proc, l.PID)
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Address.Port(), b.Address.Port()), a.Address.Addr().Compare(b.Address.Addr()))
	})
	return list
}

// listenerLine reads a line of /proc/net/tcp or tcp6; ok is false unless it is a socket that listens. The address is in hexadecimal words in
// the order of this machine's bytes (proc_net_tcp in the kernel's documentation).
func listenerLine(line string) (address netip.AddrPort, inode string, ok bool) {
	const listen = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listen {
		return address, "", false
	}
	host, port, found := strings.Cut(fields[1], ":")
	words, err := hex.DecodeString(host)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || portErr != nil || len(words)%4 != 0 {
		return address, "", false
	}
	if littleEndian() {
		for i := 0; i < len(words); i += 4 {
			slices.Reverse(words[i : i+4])
		}
	}
	ip, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), fields[9], ok
}

func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }

// ownersOf finds a process for each socket: the one with the smallest number, which is the daemon itself.
func ownersOf(proc string, sockets map[string]netip.AddrPort) map[string]int {
	owners := map[string]int{}
	descriptors, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return owners
	}
	for _, path := range descriptors {
		target, err := os.Readlink(path)
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		inode = strings.TrimSuffix(inode, "]")
		if err != nil || !isSocket || !sockets[inode].IsValid() {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err == nil && pid > 1 && (owners[inode] == 0 || pid < owners[inode]) { // systemd, process 1, may hold sockets of others
			owners[inode] = pid
		}
	}
	return owners
}

// programOf names the program of a process, and the mail server that it is.
func programOf(proc string, pid int) (program, kind string) {
	directory := filepath.Join(proc, strconv.Itoa(pid))
	path, err := os.Readlink(filepath.Join(directory, "exe"))
	if err == nil {
		path = strings.TrimSuffix(path, " (deleted)") // after an upgrade
		program = filepath.Base(path)
	} else if text, err := os.ReadFile(filepath.Join(directory, "comm")); err == nil {
		program = strings.TrimSpace(string(text))
	}
	switch {
	case program == "exim" || program == "exim4" || strings.HasPrefix(program, "exim-4"):
		kind = kindExim
	case program == "master" && strings.Contains(path, "postfix"):
		kind = kindPostfix
	case program == "dovecot" || strings.Contains(path, "/dovecot/"):
		kind = kindDovecot
	}
	return program, kind
}

// serviceName matches the last service in the path of a control group.
var serviceName = regexp.MustCompile(`/([A-Za-z0-9:_.@\\-]+\.service)(?:/|$)`) //nolint:gochecknoglobals // a constant

// unitOf returns the service of a process.
func unitOf(proc string, pid int) string {
	file, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if m := serviceName.FindAllStringSubmatch(lines.Text(), -1); m != nil {
			return m[len(m)-1][1]
		}
	}
	return ""
}

// Dial returns the address at which another program of this host reaches the listener.
func (l Listener) Dial() string {
	ip := l.Address.Addr()
	switch {
	case ip.IsUnspecified() && ip.Is4():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip.IsUnspecified():
		ip = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(ip, l.Address.Port()).String()
}

// String names the program, for a person.
func (l Listener) String() string {
	if l.Program == "" {
		return "a program that only root can see"
	}
	text := fmt.Sprintf("%s (process %d", quote(l.Program), l.PID)
	if l.Unit != "" {
		text += ", " + l.Unit
	}
	return text + ")"
}

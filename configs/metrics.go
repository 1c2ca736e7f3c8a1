package configs

import (
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// usualListen is the address of the example.
const usualListen = "127.0.0.1:9743"

// checkMetrics checks where the numbers go.
func (l *loader) checkMetrics(m *Metrics, state string) {
	l.checkListen(m)
	l.checkPath("metrics.web_config", m.WebConfig)
	if m.WebConfig != "" && m.Listen == "" && !l.touched["metrics.listen"] {
		l.warn("metrics.web_config", `add listen: "`+usualListen+`"`, "is not used, because mxcert does not listen")
	}
	l.checkPath("metrics.textfile", m.Textfile)
	switch file := m.Textfile; {
	case file == "":
	case strings.HasPrefix(file, state+"/"):
		l.bad("metrics.textfile", "write it to the directory that node_exporter reads", "%s is inside the state directory, which no other program may read", quote(file))
	case path.Ext(file) != ".prom" || path.Base(file) == ".prom":
		l.bad("metrics.textfile", "write for example "+quote(promFile(file)), "%s does not end in .prom: node_exporter reads no other file", quote(file))
	case file == m.WebConfig:
		l.bad("metrics.textfile", "name another file", "mxcert would overwrite the web configuration")
	}
}

// promFile guesses the file that was meant.
func promFile(file string) string {
	if path.Ext(file) == "" {
		return path.Join(file, "mxcert.prom")
	}
	return strings.TrimSuffix(file, path.Ext(file)) + ".prom"
}

// checkListen normalises the address. It may not be a host name: whoever answers for the name would decide who can reach mxcert.
func (l *loader) checkListen(m *Metrics) {
	const p = "metrics.listen"
	if m.Listen == "" || l.touched[p] {
		return
	}
	host, port, err := net.SplitHostPort(m.Listen)
	if err != nil || strings.Contains(m.Listen, "/") {
		l.bad(p, listenHint(m.Listen), "%s is not an address with a port", quote(m.Listen))
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port != strconv.FormatUint(n, 10) {
		l.bad(p, "write a number from 1 to 65535", "%s is not a port", quote(port))
		return
	}
	if host == "" {
		l.bad(p, `write "127.0.0.1:`+port+`", or "[::]:`+port+`" if others may see it`, "%s names no address", quote(m.Listen))
		return
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		l.bad(p, `write an IP address, such as "127.0.0.1:`+port+`"`, "%s is not an IP address", quote(host))
		return
	}
	m.Listen = netip.AddrPortFrom(address, uint16(n)).String()
	if n < 1024 {
		l.warn(p, "choose a port above 1023, such as 9743", "the service has no right to listen on port %d", n)
	}
	if !address.Unmap().IsLoopback() && m.WebConfig == "" {
		l.warn(p, "set web_config to a file with TLS and passwords, or listen on 127.0.0.1", "everybody who reaches this address can read the names of your certificates and mail servers")
	}
}

// listenHint guesses what was meant.
func listenHint(text string) string {
	_, address, isURL := strings.Cut(text, "://")
	address, _, _ = strings.Cut(address, "/")
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		return `did you mean "127.0.0.1:` + text + `"?`
	}
	if i := strings.LastIndexByte(text, ':'); i > 0 && !strings.HasPrefix(text, "[") {
		if a, err := netip.ParseAddr(text[:i]); err == nil && a.Is6() && len(text)-i > 4 { // four digits at least: an address may end in a number, too
			return "did you mean " + quote("["+text[:i]+"]"+text[i:]) + "?"
		}
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return "did you mean " + quote(netip.AddrPortFrom(a, 9743).String()) + "?"
	}
	if _, err := netip.ParseAddrPort(address); isURL && err == nil {
		return "did you mean " + quote(address) + "?"
	}
	return `write for example "` + usualListen + `"`
}

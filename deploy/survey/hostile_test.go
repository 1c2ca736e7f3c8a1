package survey

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/verdict"
)

// hostile are servers that want to keep a client busy, or to fill its memory. Each gets a connection and does its worst until that ends.
func hostile(t testing.TB, ca *pki) map[string]func(net.Conn) {
	huge := ca.leaf(ecKey(t))
	for len(huge.Certificate) < 250 { // some 100 KB
		huge.Certificate = append(huge.Certificate, huge.Certificate[0])
	}
	offer := func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for _, text := range []string{"220 mx.example.org\r\n", "250-mx.example.org\r\n250 STARTTLS\r\n", "220 go ahead\r\n"} {
			_, _ = io.WriteString(conn, text)
			if text[0] == '2' && text[1] == '2' && strings.Contains(text, "go") {
				return
			}
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
		}
	}
	forever := func(conn net.Conn, text string, pause time.Duration) {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
	record := func(kind byte, content string) string {
		return string([]byte{kind, 3, 3, byte(len(content) >> 8), byte(len(content))}) + content
	}
	return map[string]func(net.Conn){
		"endless replies":    func(c net.Conn) { forever(c, strings.Repeat("220-more\r\n", 1000), 0) },
		"a line without end": func(c net.Conn) { _, _ = io.WriteString(c, "220 "); forever(c, strings.Repeat("x", 1<<16), 0) },
		"a byte a second":    func(c net.Conn) { _, _ = io.WriteString(c, "220 "); forever(c, "x", time.Second) },
		"silence":            func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"reset at once":      func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) },
		"reset after EHLO": func(c net.Conn) {
			_, _ = io.WriteString(c, "220 mx\r\n")
			_, _ = c.Read(make([]byte, 10))
			_ = c.(*net.TCPConn).SetLinger(0)
		},
		"reset in TLS":         func(c net.Conn) { offer(c); _, _ = c.Read(make([]byte, 10)); _ = c.(*net.TCPConn).SetLinger(0) },
		"warnings without end": func(c net.Conn) { offer(c); forever(c, record(21, "\x01\x00"), time.Millisecond) },
		"an alert": func(c net.Conn) {
			offer(c)
			_, _ = c.Read(make([]byte, 10))
			_, _ = io.WriteString(c, record(21, "\x02\x50"))
			_, _ = io.Copy(io.Discard, c)
		},
		"a handshake without end": func(c net.Conn) {
			offer(c)
			_, _ = io.WriteString(c, record(22, "\x02\x00\xff\xff"))
			forever(c, record(22, "x"), 100*time.Millisecond)
		},
		"a huge handshake": func(c net.Conn) {
			offer(c)
			_, _ = io.WriteString(c, record(22, "\x02\xff\xff\xff"))
			forever(c, record(22, strings.Repeat("x", 16000)), 0)
		},
		"empty records": func(c net.Conn) { offer(c); forever(c, record(22, ""), 0) },
		"a huge chain": func(c net.Conn) {
			offer(c)
			server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{huge}})
			if server.Handshake() == nil {
				forever(server, strings.Repeat("250-more\r\n", 1000), 0)
			}
		},
		"silence under TLS": func(c net.Conn) {
			offer(c)
			server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{huge}})
			_ = server.Handshake()
			_, _ = io.Copy(io.Discard, server)
		},
	}
}

func serveHostile(t testing.TB, address string, port int, behave func(net.Conn)) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	check(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
				behave(conn)
			}()
		}
	}()
}

// TestHostilePeers: all hostile peers are MX hosts of one domain, beside a good one. The look ends in time, and the good one is judged whole.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "good A 127.5.8.1", "@ MX 9999 good"), newPKI(t)
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t), func(c *x509.Certificate) { c.DNSNames = []string{"good.example.org"} })}},
		greeting: "220 good.example.org\r\n", secure: "250-good.example.org\r\n250 SIZE 1000\r\n"}).listen(t, "127.5.8.1", w.port)
	n := 1
	for _, behave := range hostile(t, ca) {
		n++
		check(t, w.dns.Add(fmt.Sprintf("h%d.example.org. A 127.5.8.%d", n, n), fmt.Sprintf("example.org. MX %d h%d.example.org.", n, n)))
		serveHostile(t, fmt.Sprintf("127.5.8.%d", n), w.port, behave)
	}
	const limit = 8 * time.Second
	start := time.Now()
	options := w.options()
	options.Roots, options.BannerTimeout, options.StepTimeout = ca.pool(), 0, 0
	_, list := LookAtDomain(within(t, limit), "example.org", options)
	if took := time.Since(start); took > limit+10*time.Second {
		t.Errorf("ends after %s", took)
	}
	if len(list) != n {
		t.Fatalf("%d entries, want %d", len(list), n)
	}
	good := list[n-1]
	if got := fmt.Sprint(asks(good)); got != "[any/good rsa/good any/ any/unknown.invalid]" {
		t.Errorf("the good one was asked %s", got)
	}
	if good.Verdicts[verdict.PKIX].Result != verdict.Pass || finding.Worst(good.Findings) == finding.Error {
		t.Errorf("the good one: %+v, %+v", good.Verdicts[verdict.PKIX], good.Findings)
	}
	for _, h := range list {
		if len(h.Verdicts) != len(verdict.Kinds) || !h.Address.IsValid() {
			t.Errorf("%s: %+v", h.Host, h)
		}
	}
}

// TestMemory compares the memory of a process that looks at a hostile peer with that of one that looks at a good one.
func TestMemory(t *testing.T) {
	if os.Getenv("MXCERT_TEST_LOOK") != "" {
		look(t)
		return
	}
	t.Parallel()
	w, ca := newWorld(t), newPKI(t)
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t))}}}).listen(t, "127.5.9.1", w.port)
	good := peak(t, "127.5.9.1", w.port)
	kinds, n := hostile(t, ca), 1
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n++
		address := fmt.Sprintf("127.5.9.%d", n)
		serveHostile(t, address, w.port, kinds[name])
		got := peak(t, address, w.port)
		t.Logf("%s: %d KiB; a good peer: %d KiB", name, got, good)
		if got > 2*good {
			t.Errorf("%s: %d KiB, more than twice as much as a good peer (%d KiB)", name, got, good)
		}
	}
}

// look is the process that is measured. It looks at an address, or at a domain with a resolver.
func look(t *testing.T) {
	limit, err := time.ParseDuration(os.Getenv("MXCERT_TEST_LIMIT"))
	check(t, err)
	port, err := strconv.Atoi(os.Getenv("MXCERT_TEST_PORT"))
	check(t, err)
	o, what, began := Options{Port: port}, os.Getenv("MXCERT_TEST_LOOK"), time.Now()
	if server := os.Getenv("MXCERT_TEST_RESOLVER"); server != "" {
		o.Resolver = resolve.New([]string{server})
		LookAtDomain(within(t, limit), what, o)
	} else {
		LookAtHost(within(t, limit), what, o)
	}
	took := time.Since(began)
	status, err := os.ReadFile("/proc/self/status")
	check(t, err)
	fmt.Printf("took %d us\n%s", took.Microseconds(), status)
}

// peak returns the peak of the resident memory of a process that looks at an address, in KiB.
func peak(t *testing.T, address string, port int) int {
	t.Helper()
	size, _ := measure(t, "MXCERT_TEST_LOOK="+address, "MXCERT_TEST_LIMIT=2s", fmt.Sprintf("MXCERT_TEST_PORT=%d", port))
	return size
}

// measure returns the peak of the resident memory of a process that looks, in KiB, and how long it looks.
func measure(t testing.TB, environment ...string) (size int, took time.Duration) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestMemory$")
	child.Env = append(os.Environ(), environment...)
	out, err := child.CombinedOutput()
	found := regexp.MustCompile(`took (\d+) us[^$]*VmHWM:\s*(\d+) kB`).FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("%v: %s", err, out)
	}
	micros, err := strconv.Atoi(string(found[1]))
	check(t, err)
	size, err = strconv.Atoi(string(found[2]))
	check(t, err)
	return size, time.Duration(micros) * time.Microsecond
}

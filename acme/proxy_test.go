package acme_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// connect is a proxy for HTTPS (RFC 9110 section 9.3.6) that knows one host name, and where its connections really go.
func connect(t *testing.T, host, to string, tunnels *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != host {
			t.Errorf("the proxy is asked for %s %s", r.Method, r.Host)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if user, password, ok := proxyAuth(r); !ok || user != "mail" || password != "s3cret" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer server.Close()
		w.WriteHeader(http.StatusOK)
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		tunnels.Add(1)
		go func() {
			_, _ = io.Copy(server, buffered)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
	}
}

func proxyAuth(r *http.Request) (user, password string, ok bool) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	return r.BasicAuth()
}

// TestProxy: the proxy of the environment is used, and named when it is what fails; its password is not.
func TestProxy(t *testing.T) {
	t.Parallel()
	const name = "ca.example.test"
	w := newWorld(t, lab.Options{CA: ca.Options{Hosts: []string{name}}})
	to := strings.TrimSuffix(strings.TrimPrefix(w.setup.Directory, "https://"), "/dir")
	_, port, _ := strings.Cut(to, ":")
	host := name + ":" + port
	w.setup.Directory = strings.Replace(w.setup.Directory, to, host, 1)
	w.RequestTime = 3 * time.Second
	var tunnels atomic.Int32
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, tt := range []struct {
		name    string
		user    string
		handler http.HandlerFunc
		says    string
	}{
		{"works", "mail:s3cret@", connect(t, host, to, &tunnels), "still alive: <nil>"},
		{"wrong password", "mail:other-s3cret@", connect(t, host, to, &tunnels), "answered 407 to CONNECT"},
		{"no way to the CA", "mail:s3cret@", connect(t, host, "127.0.0.1:1", &tunnels), "answered 502 to CONNECT"},
		{"refuses", "", status(403), "answered 403 to CONNECT"},
		{"hangs", "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no complete answer within 3s"},
		{"breaks off", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached: "},
		{"speaks no TLS", "", func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, "hello, this is no TLS at all\r\n\r\n")
				_ = conn.Close()
			}
		}, "first record does not look like a TLS handshake"},
	} {
		proxy := httptest.NewServer(tt.handler)
		s := w.setup
		s.State = filepath.Join(w.Path("proxy"), strings.ReplaceAll(tt.name, " ", "-"))
		address := strings.TrimPrefix(proxy.URL, "http://")
		out := s.apart(t, "HTTPS_PROXY=http://"+tt.user+address, "NO_PROXY=", "no_proxy=", "https_proxy=")
		proxy.CloseClientConnections()
		proxy.Close()
		if !strings.Contains(out, tt.says) || strings.Contains(out, "s3cret") || (strings.Contains(tt.says, "CONNECT") && !strings.Contains(out, "the proxy "+address)) {
			t.Errorf("%s: %s", tt.name, out)
		}
	}
	if tunnels.Load() == 0 {
		t.Error("nothing went through the proxy")
	}
}

// TestMemory: answers without end at every authorization, eight at a time, cost no memory to speak of.
func TestMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.Names = nil
	for i := range 16 {
		w.Names = append(w.Names, fmt.Sprintf("memory%d.example.org", i))
	}
	peak := func(state, want string) int {
		s := w.setup
		s.State = w.Path(state)
		out := s.apart(t)
		found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(out)
		if found == nil || !strings.Contains(out, want) {
			t.Fatalf("%s: %s", state, out)
		}
		kB, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		return kB
	}
	usual := peak("usual", "still alive: <nil>")
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.Authz {
				gigabyte(0)(&exchange{rw, r, inner, &cell{}})
				return
			}
			inner.ServeHTTP(rw, r)
		})
	})
	if much := peak("much", "larger than 1048576 bytes"); much > usual+256<<10 { // without the cap it is gigabytes
		t.Errorf("%d kB, %d kB without", much, usual)
	}
}

// TestRefusedNonces: however many nonces the CA refuses, every order succeeds, and at once.
func TestRefusedNonces(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 20, 50} {
		w := newWorld(t, lab.Options{CA: ca.Options{BadNonces: percent}})
		start, refused := time.Now(), 0
		const orders = 4
		for i := range orders {
			w.Names = []string{fmt.Sprintf("a%d.example.org", i), fmt.Sprintf("b%d.example.org", i), fmt.Sprintf("c%d.example.org", i)}
			w.order(t, func(r *acme.Request) { r.Urgent = true })
		}
		for _, r := range w.CA.Requests() {
			if r.Status == http.StatusBadRequest {
				refused++
			}
		}
		if (refused == 0) != (percent == 0) {
			t.Errorf("%d %%: %d nonces were refused", percent, refused)
		}
		if took := time.Since(start); took > 20*time.Second { // lego's core would wait 200 ms and more for each
			t.Errorf("%d %%: it took %s", percent, took)
		}
	}
}

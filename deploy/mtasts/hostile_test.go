package mtasts

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/deadline"
)

// raw takes the connection from net/http, to say what no web server should.
func raw(say func(conn net.Conn, gone <-chan struct{})) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		conn, _, err := out.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		say(conn, request.Context().Done())
	}
}

// drip writes text again and again, until the client goes.
func drip(conn net.Conn, text string, pause time.Duration) {
	again := []byte(text) // once: what this server throws away must not count
	for {
		if _, err := conn.Write(again); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// TestHostilePolicyHosts: whatever the web server does, the look ends when its time is over, and takes no more memory than a good server
// costs.
func TestHostilePolicyHosts(t *testing.T) { //nolint:paralleltest // it measures memory
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	hosts := []struct {
		what  string
		says  string
		serve http.HandlerFunc
	}{
		{"an endless body", "larger than 64 KiB", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head+"\r\n")
			drip(c, strings.Repeat("x", 1<<16), 0)
		})},
		{"a slow body", "no answer in time", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head+"\r\n")
			drip(c, "x", 50*time.Millisecond)
		})},
		{"slow headers", "no answer in time", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head)
			drip(c, "X: y\r\n", 50*time.Millisecond)
		})},
		{"no answer", "no answer in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"huge headers", "exceeded", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head)
			drip(c, "X: "+strings.Repeat("y", 1<<16)+"\r\n", 0)
		})},
		{"one endless header", "exceeded", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head+"X: ")
			drip(c, strings.Repeat("y", 1<<16), 0)
		})},
		{"endless interim answers", "", raw(func(c net.Conn, _ <-chan struct{}) { drip(c, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 0) })},
		{"a length that is too large", "unexpected EOF", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head+"Content-Length: 9999\r\n\r\n"+good)
		})},
		{"a length of many GiB", "larger than 64 KiB", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head+"Content-Length: 99999999999\r\n\r\n")
			drip(c, strings.Repeat("x", 1<<16), 0)
		})},
		{"bad chunks", "chunk", raw(func(c net.Conn, _ <-chan struct{}) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
		})},
		{"not HTTP", "malformed", raw(func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, "220 mail ESMTP\r\n") })},
		{"a closed connection", "EOF", raw(func(net.Conn, <-chan struct{}) {})},
		{"an endless redirect", "302", func(out http.ResponseWriter, r *http.Request) { http.Redirect(out, r, r.URL.Path, http.StatusFound) }},
		{"terminal sequences", "malformed", func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Location", "\x1b[31mhttps://x/"+strings.Repeat("a", 5000))
			out.WriteHeader(http.StatusMovedPermanently)
		}},
		{"a bomb of gzip", "UTF-8", func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", "text/plain")
			out.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(out, "\x1f\x8b\x08")
		}},
	}
	heap := peakHeap(t)
	// cost ends the time of the look when the server has had half a second, if the look ends in no other way.
	cost := func(handler http.HandlerFunc, stalls bool) (Found, uint64) {
		w := newWorld(t, record, "mta-sts A 192.0.2.1")
		ctx := deadline.New(t.Context())
		var over sync.Once
		w.serve("192.0.2.1", w.pair(nil), func(out http.ResponseWriter, r *http.Request) {
			if stalls {
				time.AfterFunc(500*time.Millisecond, func() { over.Do(func() { close(ctx.Over) }) })
			}
			handler(out, r)
		})
		start, peak := time.Now(), heap.since()
		f := w.client.Look(ctx, "example.org")
		if took := time.Since(start); took > wholeTime/2 { // its own end comes after twice as long
			t.Errorf("it took %s", took)
		}
		return f, peak()
	}
	var usual uint64
	for range 3 {
		_, takes := cost(func(out http.ResponseWriter, r *http.Request) {
			policy(good+"x: "+strings.Repeat("y", 60<<10)+"\r\n")(out, r)
			_ = http.NewResponseController(out).Flush()
			heap.await(3) // while the client has most of it
		}, false)
		usual = max(usual, takes)
	}
	for _, h := range hosts {
		f, most := cost(h.serve, h.says == "no answer in time")
		if f.Policy != nil || f.Type == "" || !strings.Contains(f.Reason, h.says) {
			t.Errorf("%s: %s, want a reason that says %q", h.what, show(f), h.says)
		}
		f.expect(t, h.what, f.Type, ids(f.Findings)...)
		t.Logf("%s: %d KiB, a good server %d", h.what, most>>10, usual>>10)
		if most > 2*usual+1<<20 { // the server in this process needs some, too
			t.Errorf("%s: %d KiB of memory, a good server costs %d", h.what, most>>10, usual>>10)
		}
	}
}

// gauge looks at what the heap holds, again and again.
type gauge struct {
	mu    sync.Mutex
	most  uint64
	count int
}

// peakHeap returns a gauge that looks until the test ends.
func peakHeap(t *testing.T) *gauge {
	g, end := &gauge{}, make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
				g.look()
			}
		}
	})
	t.Cleanup(func() { close(end); done.Wait() })
	return g
}

func (g *gauge) look() uint64 {
	runtime.GC() // what is in use counts, and not what is only waiting to be collected
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most, g.count = max(g.most, m.HeapAlloc), g.count+1
	return m.HeapAlloc
}

// since returns a function that says how far the heap has grown since now.
func (g *gauge) since() func() uint64 {
	before := g.look()
	for range 3 { // pools and finalizers give memory back after several collections only
		before = min(before, g.look())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = before
	return func() uint64 {
		g.look()
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.most - before
	}
}

// await returns when there have been so many looks since now.
func (g *gauge) await(looks int) {
	count := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.count
	}
	for end := count() + looks; count() < end; time.Sleep(time.Millisecond) {
	}
}

// TestStalledTLS: servers that take the connection and go no further.
func TestStalledTLS(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct{ say, says string }{
		"silence":                {"", "no answer in time"},
		"HTTP":                   {"HTTP/1.1 400 Bad Request\r\n\r\n", "first record does not look like a TLS handshake"},
		"an alert":               {"\x15\x03\x03\x00\x02\x02\x28", "handshake failure"},
		"half":                   {"\x16\x03\x03\xff", "no answer in time"},
		"an address that resets": {"reset", ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			ctx := deadline.New(t.Context())
			var over sync.Once
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					if tt.say == "reset" {
						_ = conn.(*net.TCPConn).SetLinger(0)
						_ = conn.Close()
						continue
					}
					_, _ = fmt.Fprint(conn, tt.say)
					t.Cleanup(func() { _ = conn.Close() })
					if tt.says == "no answer in time" {
						time.AfterFunc(500*time.Millisecond, func() { over.Do(func() { close(ctx.Over) }) })
					}
				}
			}()
			w := newWorld(t, record, "mta-sts A 192.0.2.1")
			w.ports["192.0.2.1"] = listener.Addr().String()
			f := w.client.Look(ctx, "example.org")
			if f.Policy != nil || f.Type != FetchError || !strings.Contains(f.Reason, tt.says) {
				t.Errorf("%s, want a reason that says %q", show(f), tt.says)
			}
			if f.NotJudged != (what == "an alert") {
				t.Errorf("not judged: %v; only a handshake that crypto/tls may not speak is", f.NotJudged)
			}
		})
	}
}

package judges

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// hostileTimeout is the --timeout of the looks at hostile peers.
const hostileTimeout = 12 * time.Second

// goodSecond gives a domain a hostile first host and, as the second, the good host of the row below all of them.
var goodSecond = []string{"{d} MX 10 {mx}", "{d} MX 20 mx.peer-good.example", "{mx} A {ip}"}

var hostileRows = []row{
	{id: "peer-endless", what: "replies without an end", server: "odd:endless", records: goodSecond},
	{id: "peer-line", what: "a line of 1 GB", server: "odd:huge-line", records: goodSecond},
	{id: "peer-greeting", what: "a greeting without an end", server: "odd:huge-greeting", records: goodSecond},
	{id: "peer-inside", what: "replies without an end inside TLS", server: "odd:endless-inside", records: goodSecond},
	{id: "peer-tarpit", what: "one octet in a second", server: "odd:tarpit", records: goodSecond},
	{id: "peer-silent", what: "silence", server: "odd:silent", records: goodSecond},
	{id: "peer-handshake", what: "silence instead of a handshake", server: "odd:silent-handshake", records: goodSecond},
	{id: "peer-reset", what: "a reset", server: "odd:reset", records: goodSecond},
	{id: "peer-alert", what: "an alert", server: "odd:alert", records: goodSecond},
	{id: "peer-body", what: "a policy without an end", server: "odd:good", records: goodSecond, policy: &policy{mode: "enforce", serve: endlessPolicy}},
	{id: "peer-header", what: "a header without an end", server: "odd:good", records: goodSecond, policy: &policy{mode: "enforce", serve: endlessHeader}},
	{id: "peer-slow", what: "a policy that comes octet by octet", server: "odd:good", records: goodSecond, policy: &policy{mode: "enforce", serve: slowPolicy}},
	{id: "peer-good", what: "a good peer, to compare with", server: "odd:good"},
}

// hostilities are SMTP servers that mean harm.
var hostilities = map[string]func(*oddity){
	"endless": func(o *oddity) { o.say("220 here\r\n"); flood(o, "250-more\r\n") },
	"huge-line": func(o *oddity) {
		o.say("220 here\r\n250 ")
		for block, sent := bytes.Repeat([]byte("x"), 64<<10), 0; sent < 1<<30; sent += len(block) {
			if _, err := o.conn.Write(block); err != nil {
				return
			}
		}
	},
	"huge-greeting": func(o *oddity) { flood(o, "220-more\r\n") },
	"endless-inside": func(o *oddity) {
		handshake := o.handshake
		o.handshake = func() bool {
			if handshake() {
				flood(o, "250-more\r\n")
			}
			return false
		}
		o.talk()
	},
	"tarpit": func(o *oddity) {
		for _, c := range strings.Repeat("220-slow\r\n", 100) {
			if _, err := io.WriteString(o.conn, string(c)); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	},
	"silent-handshake": func(o *oddity) { o.handshake = func() bool { o.hold(); return false }; o.talk() },
}

// flood repeats a text until the peer leaves.
func flood(o *oddity, text string) {
	for block := strings.Repeat(text, 1+(64<<10)/len(text)); ; {
		if _, err := io.WriteString(o.conn, block); err != nil {
			return
		}
	}
}

func endlessPolicy(out http.ResponseWriter, _ *http.Request) {
	out.Header().Set("Content-Type", "text/plain")
	for block := []byte("version: STSv1\r\n" + strings.Repeat("mx: a.example\r\n", 4000)); ; {
		if _, err := out.Write(block); err != nil {
			return
		}
	}
}

func endlessHeader(out http.ResponseWriter, _ *http.Request) {
	conn, _, err := out.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	block := strings.Repeat("X-More: more\r\n", 4000)
	for _, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil; {
		_, err = io.WriteString(conn, block)
	}
}

func slowPolicy(out http.ResponseWriter, in *http.Request) {
	out.Header().Set("Content-Type", "text/plain")
	for {
		if _, err := io.WriteString(out, "v"); err != nil {
			return
		}
		out.(http.Flusher).Flush()
		select {
		case <-in.Context().Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// measured runs a program and prints, below its output, the most memory that it used, in KiB.
const measured = `import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)`

// look runs mxcert verify for a domain.
func look(ctx context.Context, h *world.Host, domain string) (d document, kib int, took time.Duration, err error) {
	began := time.Now()
	r, err := h.Run(ctx, "python3", "-c", measured, "/usr/bin/mxcert", "verify", "--json", "--resolver", "127.0.0.1:53", "--roots", "/etc/judges/anchors.pem",
		"--timeout", hostileTimeout.String(), "--domain", domain)
	took = time.Since(began)
	if err != nil {
		return d, 0, took, err
	}
	if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil {
		return d, 0, took, fmt.Errorf("%w\n%.500s%.500s", err, r.Stdout, r.Stderr)
	}
	lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
	_, err = fmt.Sscan(lines[len(lines)-1], &kib)
	return d, kib, took, err
}

// TestHostilePeers looks at domains whose first host or policy host is hostile: the look ends in time, needs no more than twice the memory
// of a good peer, and what it says of the second host is whole.
func TestHostilePeers(t *testing.T) {
	mailhost.Require(t)
	p, err := newPKI(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seats, err := seatsOf(hostileRows, p)
	if err != nil {
		t.Fatal(err)
	}
	w := openWorld(t.Context(), t, p, seats)
	h := w.Sender.In(world.Postfix)
	_, least, _, err := look(t.Context(), h, "peer-good.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seats[:len(seats)-1] {
		t.Run(s.id, func(t *testing.T) {
			t.Parallel()
			d, kib, took, err := look(t.Context(), h, s.mailDomain())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %v, %d KiB, beside %d", s.what, took.Round(time.Millisecond), kib, least)
			if took > hostileTimeout+5*time.Second {
				t.Errorf("it took %v; --timeout is %v", took, hostileTimeout)
			}
			if kib > 2*least {
				t.Errorf("it used %d KiB; a good peer takes %d", kib, least)
			}
			for _, host := range d.Hosts {
				if host.MX == "mx.peer-good.example" && host.Verdicts["pkix"].Result == "pass" && host.Verdicts["dane"].Result == "n/a" {
					return
				}
			}
			t.Errorf("the second host is not judged as it should be: %+v", d.Hosts)
		})
	}
}

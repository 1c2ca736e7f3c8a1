package acme_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
)

// bodies are wrong contents of good answers.
func bodies() []fault {
	unlike := outcome{kind: "ca-error"}
	wrong := `{"newNonce":1,"newAccount":2,"newOrder":[],"renewalInfo":{},"meta":7,"status":8,"identifiers":"x","authorizations":{},"finalize":[],` +
		`"certificate":5,"challenges":"none","identifier":3,"wildcard":"yes","url":{},"token":9,"suggestedWindow":[],"error":"none","expires":1}`
	return []fault{
		{name: "null", body: true, respond: after(0, always("null")), want: unlike},
		{name: "a list", body: true, respond: after(0, always("[]")), want: unlike},
		{name: "nothing", body: true, respond: after(0, always("")), want: unlike},
		{name: "204", body: true, respond: after(204, always("")), want: unlike},
		{name: "wrong types", body: true, respond: after(0, always(wrong)), want: unlike},
		{name: "truncated", body: true, respond: after(0, func(good string) string { return good[:len(good)/2] }), want: unlike},
		{name: "2 MiB", body: true, respond: after(0, func(good string) string { return strings.Repeat(" ", 2<<20) + good }), want: unlike},
		{name: "1 GiB", body: true, respond: gigabyte(0), want: unlike},
		{name: "500 with 1 GiB", respond: gigabyte(500), want: unlike},
		{name: "8 MiB compressed", body: true, respond: compressed, want: unlike},
	}
}

// gigabyte sends spaces for as long as they are taken.
func gigabyte(status int) func(*exchange) {
	return func(x *exchange) {
		good := x.good()
		x.write(cmp.Or(status, good.Code), good.Header(), "")
		if x.request.Method == http.MethodHead {
			return
		}
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for range 1 << 30 / len(chunk) {
			n, err := x.Write(chunk)
			if x.cell.sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
}

// zeros are 8 MiB, compressed.
var zeros = sync.OnceValue(func() string {
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	_, _ = z.Write(make([]byte, 8<<20))
	_ = z.Close()
	return small.String()
})

// compressed sends 8 KiB that become 8 MiB.
func compressed(x *exchange) {
	good := x.good()
	x.Header().Set("Content-Encoding", "gzip")
	x.write(good.Code, good.Header(), zeros())
}

// connections are faults below the answers.
func connections() []fault {
	gone := outcome{kind: "ca-unreachable"}
	late := outcome{kind: "ca-unreachable", says: "no complete answer within " + slowRequest.String()}
	return []fault{
		{name: "no answer", slow: true, want: late, unseen: true, respond: func(x *exchange) { <-x.request.Context().Done() }},
		{name: "answer after the CA hangs", slow: true, want: late, respond: func(x *exchange) { x.good(); <-x.request.Context().Done() }},
		{name: "a dripping body", slow: true, want: late, respond: func(x *exchange) {
			good := x.good()
			good.Header().Del("Content-Type")
			x.write(good.Code, good.Header(), "")
			drip(x, func() error {
				_, err := x.Write([]byte(" "))
				return err
			})
		}},
		{name: "early hints without end", slow: true, unseen: true, want: outcome{kind: "ca-unreachable"}, respond: func(x *exchange) {
			drip(x, func() error { x.WriteHeader(http.StatusEarlyHints); return nil })
		}},
		{name: "broken off at once", want: gone, respond: func(x *exchange) { x.good(); panic(http.ErrAbortHandler) }},
		{name: "broken off in the body", want: gone, respond: func(x *exchange) {
			good := x.good()
			x.Header().Set("Content-Length", good.Header().Get("Content-Length"))
			x.write(good.Code, good.Header(), good.Body.String()[:good.Body.Len()/2])
			_ = http.NewResponseController(x).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "too large headers", want: gone, respond: func(x *exchange) {
			good := x.good()
			for range 40 {
				good.Header().Add("X-Large", strings.Repeat("x", 32<<10))
			}
			x.write(good.Code, good.Header(), good.Body.String())
		}},
		{name: "a dripping header", raw: true, slow: true, want: late, respond: func(x *exchange) {
			x.good()
			hijack(x, func(conn net.Conn) {
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nX-Slow: "))
				drip(x, func() error {
					_, err := conn.Write([]byte("x"))
					return err
				})
			})
		}},
		{name: "a reset in the body", raw: true, want: gone, respond: func(x *exchange) {
			good := x.good()
			hijack(x, func(conn net.Conn) {
				head := "HTTP/1.1 200 OK\r\nReplay-Nonce: " + good.Header().Get("Replay-Nonce") + "\r\nContent-Length: 1000\r\n\r\n"
				_, _ = conn.Write([]byte(head + good.Body.String()[:min(100, good.Body.Len())]))
				if c, ok := conn.(interface{ NetConn() net.Conn }); ok {
					if c, ok := c.NetConn().(*net.TCPConn); ok {
						_ = c.SetLinger(0)
					}
				}
			})
		}},
		{name: "garbage", raw: true, want: outcome{kind: "ca-unreachable"}, respond: func(x *exchange) {
			x.good()
			hijack(x, func(conn net.Conn) { _, _ = conn.Write([]byte("\x00\x01\x02\x1b[31m\r\n\r\n")) })
		}},
	}
}

// drip does something now and then until the client has had enough.
func drip(x *exchange, next func() error) {
	for range 3000 {
		if next() != nil || x.request.Context().Err() != nil {
			return
		}
		_ = http.NewResponseController(x).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}

func hijack(x *exchange, do func(net.Conn)) {
	conn, _, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	do(conn)
}

// orders are wrong contents that only an ACME client can tell.
func orders() []fault {
	host := func(x *exchange) string { return x.request.Host }
	foreign := func(x *exchange) {
		good := x.good()
		if location := good.Header().Get("Location"); location != "" && x.cell.endpoint != ca.Finalize {
			good.Header().Set("Location", strings.ReplaceAll(location, host(x), "127.0.0.1:1"))
		}
		x.write(good.Code, good.Header(), strings.ReplaceAll(good.Body.String(), host(x), "127.0.0.1:1"))
	}
	replace := func(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }
	elsewhere := outcome{kind: "ca-error", says: "a host that its directory does not name"}
	bare := func(without string) func(*exchange) {
		return func(x *exchange) {
			good := x.good()
			good.Header().Del(without)
			x.write(good.Code, good.Header(), good.Body.String())
		}
	}
	links := func(x *exchange) {
		good := x.good()
		for range 5000 {
			good.Header().Add("Link", `<`+"https://"+host(x)+"/certZ/alternate"+`>;rel="alternate"`)
		}
		x.write(good.Code, good.Header(), good.Body.String())
	}
	only := func(e ...ca.Endpoint) []ca.Endpoint { return e }
	return []fault{
		{name: "bad nonce without end", unseen: true, at: only(ca.NewAccount, ca.NewOrder, ca.Authz, ca.Challenge, ca.Order, ca.Finalize, ca.Certificate, ca.RevokeCert, ca.KeyChange),
			respond: instead(400, problem("badNonce"), "Replay-Nonce", "Ym9ndXM"), want: outcome{kind: "ca-error", says: "(badNonce)"}},
		{name: "no Replay-Nonce", at: only(ca.NewNonce), respond: bare("Replay-Nonce"), want: outcome{kind: "ca-error", says: "nonce header"}},
		{name: "no Replay-Nonce", at: only(ca.NewAccount, ca.NewOrder, ca.Authz, ca.Challenge, ca.Order, ca.Finalize, ca.Certificate, ca.RevokeCert, ca.KeyChange), respond: bare("Replay-Nonce")},
		{name: "no Location", at: only(ca.NewAccount), respond: bare("Location"), want: outcome{kind: "ca-error", says: "sent no URL for the account"}},
		{name: "no Location", at: only(ca.NewOrder), respond: bare("Location"), want: outcome{kind: "ca-error", says: "sent no URL for the order", orders: 2}},
		{name: "foreign account", at: only(ca.NewAccount), respond: foreign, want: outcome{kind: "ca-error", says: "a host that the directory does not name"}},
		{name: "foreign URLs", at: only(ca.NewOrder), respond: foreign, want: outcome{kind: "ca-error", stage: "authorization", says: elsewhere.says, orders: 2}},
		{name: "foreign URLs", at: only(ca.Authz), respond: foreign, want: outcome{kind: "ca-error", stage: "challenge", says: elsewhere.says}},
		{name: "foreign URLs", at: only(ca.Order), respond: foreign, want: outcome{kind: "ca-error", stage: "finalize", says: elsewhere.says}},
		{name: "foreign certificate", at: only(ca.Order), respond: func(x *exchange) {
			after(0, replace(host(x)+"/certZ/", "127.0.0.1:1/certZ/"))(x)
		}, want: outcome{kind: "ca-error", stage: "download", says: elsewhere.says}},
		{name: "5,000 alternates", at: only(ca.Certificate), respond: links, want: outcome{requests: 1}},
		{name: "5,000 alternates to choose from", at: only(ca.Certificate), respond: links, chain: "Nobody's Root", want: outcome{requests: 9}},
		{name: "more authorizations than names", at: only(ca.NewOrder), respond: after(0, replace(`"authorizations": [`, `"authorizations": ["https://x/1","https://x/2",`)),
			want: outcome{kind: "ca-error", stage: "authorization", permanent: true, says: "wants 3 authorizations for 1 names", orders: 2}},
		{name: "no authorization", at: only(ca.NewOrder), respond: after(0, func(good string) string {
			before, rest, _ := strings.Cut(good, `"authorizations": [`)
			_, rest, _ = strings.Cut(rest, "]")
			return before + `"authorizations": [` + "]" + rest
		}), endless: true, want: outcome{kind: "ca-error", says: "still at work on the order (pending)"}},
		{name: "the same authorization twice", at: only(ca.NewOrder), respond: after(0, func(good string) string {
			before, rest, _ := strings.Cut(good, `"authorizations": [`)
			url, rest, _ := strings.Cut(rest, "]")
			return before + `"authorizations": [` + url + "," + url + "]" + rest
		}), want: outcome{kind: "ca-error", stage: "authorization", permanent: true, says: "wants 2 authorizations for 1 names", orders: 2}},
		{name: "another name", at: only(ca.Authz), respond: after(0, replace(`"value": "cell`, `"value": "evil`)),
			want: outcome{kind: "ca-error", permanent: true, says: "which is not in the order", orders: 2}},
		{name: "other identifiers", at: only(ca.NewOrder), respond: after(0, replace(`"value": "cell`, `"value": "evil`)),
			want: outcome{kind: "ca-error", says: "identifiers have been modified", orders: 2}},
		{name: "no name", at: only(ca.Authz), respond: after(0, replace(`"value"`, `"other"`)), want: outcome{kind: "ca-error", says: "without a name"}},
		{name: "unknown challenge types first", at: only(ca.Authz), respond: after(0, replace(`"challenges": [`, `"challenges": [{"type":"quantum-01","url":"","mystery":[7]},{"type":"dns-account-01","url":"https://x/","token":"x","status":"pending"},`))},
		{name: "no dns-01", at: only(ca.Authz), respond: after(0, replace(`"dns-01"`, `"dns-account-01"`)),
			want: outcome{kind: "ca-refused", permanent: true, says: "offers no dns-01 challenge", orders: 2}},
		{name: "a token that is none", at: only(ca.Authz), respond: after(0, replace(`"token": "`, `"token": "../../\n`)), want: outcome{kind: "ca-error", says: "is not base64url"}},
		{name: "unknown status", at: only(ca.NewOrder, ca.Finalize), respond: after(0, replace(`"status": "`, `"status": "un`)),
			want: outcome{kind: "ca-error", stage: "finalize", says: `(order is "un`}},
		{name: "unknown status", at: only(ca.Order), respond: after(0, replace(`"status": "`, `"status": "un`)), want: outcome{kind: "ca-error", says: "which is not a status of RFC 8555"}},
		{name: "unknown status", at: only(ca.Authz), respond: after(0, replace(`"status": "`, `"status": "un`)),
			want: outcome{kind: "ca-error", says: `is "unpending", which is not a status of RFC 8555`}},
		{name: "no certificate URL", at: only(ca.Order), respond: after(0, replace(`"certificate"`, `"elsewhere"`)), want: outcome{kind: "ca-error", stage: "finalize", says: "sent no certificate"}},
		{name: "an inverted window", at: only(ca.RenewalInfo), respond: after(0, replace(`"start"`, `"end"`, `"end"`, `"start"`)), want: outcome{kind: "ca-error"}},
	}
}

package acme_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
)

// fault is a way in which endpoints misbehave, and what is to come of it.
type fault struct {
	name    string
	respond func(x *exchange)
	at      []ca.Endpoint // where it applies; nil for all
	raw     bool          // it breaks the connection itself, which takes HTTP/1.1
	body    bool          // it is in the body of a good answer
	unseen  bool          // the CA does not get the request
	slow    bool          // it holds requests up
	endless bool          // the order never gets ready
	chain   string        // preferred chain of the client
	want    outcome       // where no rule of rules says otherwise
}

// outcome is what an operation says of a fault, and what the next one has to do.
type outcome struct {
	kind      string // "" for success, "none" for ari.ErrNone
	stage     string // "" for that of the endpoint
	permanent bool
	wait      time.Duration // Retry-After that is passed on
	says      string
	orders    int // placed in all, once the fault has gone
	requests  int // at most, at the faulty endpoint; 0 for mostRequests
}

func (o outcome) String() string {
	return fmt.Sprintf("kind %s, stage %s, permanent %v, wait %s, saying %q", o.kind, o.stage, o.permanent, o.wait, o.says)
}

// orderEndpoints are all that an order needs, in its order, with the stage that a failure there is of.
func orderEndpoints() ([]ca.Endpoint, map[ca.Endpoint]string) {
	return []ca.Endpoint{ca.Directory, ca.NewNonce, ca.NewAccount, ca.NewOrder, ca.Authz, ca.Challenge, ca.Order, ca.Finalize, ca.Certificate},
		map[ca.Endpoint]string{
			ca.Directory: "directory", ca.NewNonce: "account", ca.NewAccount: "account", ca.NewOrder: "order", ca.Authz: "authorization",
			ca.Challenge: "challenge", ca.Order: "order", ca.Finalize: "finalize", ca.Certificate: "download", ca.RenewalInfo: "renewal information",
			ca.RevokeCert: "revoke", ca.KeyChange: "account",
		}
}

// table is every fault at every endpoint where it applies.
func table(raw bool) (cells []*cell) {
	all, stages := orderEndpoints()
	all = append(all, ca.RenewalInfo, ca.RevokeCert, ca.KeyChange)
	for _, f := range slices.Concat(answers(), bodies(), connections(), orders(), lags()) {
		for _, e := range all {
			if f.raw != raw || (f.at != nil && !slices.Contains(f.at, e)) {
				continue
			}
			want := f.want
			want.stage = cmp.Or(want.stage, stages[e])
			if want.orders == 0 {
				want.orders = 1
			}
			cells = append(cells, &cell{id: len(cells), endpoint: e, fault: f, want: rules(e, f, want)})
		}
	}
	return cells
}

// rules are the cells in which something else comes out than the fault says.
func rules(e ca.Endpoint, f fault, want outcome) outcome {
	works := outcome{orders: 1}
	switch e {
	case ca.NewNonce:
		if f.body || f.name == "a reset in the body" { // a HEAD has none: the nonce is in the header
			return works
		}
		if want.permanent { // nor is there a problem document
			want.kind, want.permanent = "ca-error", false
		}
	case ca.NewAccount:
		if f.name == "null" { // the URL is in the header
			return works
		}
	case ca.NewOrder:
		if f.at == nil && !f.unseen { // the order was placed, but its URL is lost
			want.orders = 2
		}
	case ca.Challenge:
		if f.at == nil && !f.unseen { // the CA has taken the challenge up: the authorization says so
			return works
		}
	case ca.Certificate:
		if f.body && !strings.Contains(f.name, "iB") { // it is no JSON, but a chain that is none
			return outcome{kind: "bad-certificate", stage: "check", permanent: true, orders: 2}
		}
		want.permanent = false // the order is valid, and its certificate is asked for again
	case ca.RevokeCert:
		if f.body && !strings.Contains(f.name, "iB") { // the status says it
			return works
		}
	case ca.KeyChange:
		if !f.unseen { // the CA is asked which key it knows
			return outcome{}
		}
		want.orders = 0
	case ca.RenewalInfo:
		want.orders = 0
		if strings.HasPrefix(f.name, "404") {
			want.kind = "none"
		}
	}
	if want.permanent && (e == ca.Authz || e == ca.Challenge || e == ca.Order || e == ca.Finalize) { // the order is given up
		want.orders = 2
	}
	return want
}

func problem(kind string) string {
	return fmt.Sprintf(`{"type":"urn:ietf:params:acme:error:%s","detail":"says the test"}`, kind)
}

// instead answers without asking the CA.
func instead(status int, body string, header ...string) func(*exchange) {
	return func(x *exchange) {
		for i := 0; i < len(header); i += 2 {
			x.Header().Set(header[i], header[i+1])
		}
		x.write(status, nil, body)
	}
}

// after answers so when the CA has done what was asked.
func after(status int, change func(good string) string) func(*exchange) {
	return func(x *exchange) {
		good := x.good()
		x.write(cmp.Or(status, good.Code), good.Header(), change(good.Body.String()))
	}
}

func always(text string) func(string) string { return func(string) string { return text } }

func until(d time.Duration) func(*exchange) {
	return func(x *exchange) {
		instead(http.StatusServiceUnavailable, "<html>maintenance</html>", "Retry-After", time.Now().Add(d).UTC().Format(http.TimeFormat))(x)
	}
}

// answers are error statuses.
func answers() []fault {
	unlike := outcome{kind: "ca-error"}
	return []fault{
		{name: "500", respond: after(500, always(problem("serverInternal"))), want: unlike},
		{name: "500 null", respond: after(500, always("null")), want: unlike},
		{name: "502 of a proxy", respond: after(502, always("<html>\x1b[31mBad Gateway\r\n</html>")), want: unlike},
		{name: "503", unseen: true, respond: instead(503, ""), want: unlike},
		{name: "503 in an hour", unseen: true, respond: instead(503, "<html>maintenance</html>", "Retry-After", "3600"), want: outcome{kind: "ca-error", wait: time.Hour}},
		{name: "503 until a date", unseen: true, respond: until(time.Hour), want: outcome{kind: "ca-error", wait: time.Hour}},
		{name: "503 in a year", unseen: true, respond: until(365 * 24 * time.Hour), want: outcome{kind: "ca-error", wait: 24 * time.Hour}},
		{name: "429", unseen: true, respond: instead(429, problem("rateLimited")), want: outcome{kind: "rate-limited"}},
		{name: "429 in an hour", unseen: true, respond: instead(429, problem("rateLimited"), "Retry-After", "3600"), want: outcome{kind: "rate-limited", wait: time.Hour}},
		{name: "429 without a type", unseen: true, respond: instead(429, "slow down", "Retry-After", "3600"), want: outcome{kind: "rate-limited", wait: time.Hour}},
		{name: "404 of a proxy", unseen: true, respond: instead(404, "404 page not found"), want: unlike},
		{name: "403", unseen: true, respond: instead(403, problem("unauthorized")), want: outcome{kind: "ca-refused", permanent: true}},
		{name: "400 with a broken problem", unseen: true, respond: instead(400, `{"type":7,"subproblems":[3,{"identifier":4}]}`), want: outcome{kind: "ca-refused", permanent: true}},
		{name: "redirect elsewhere", unseen: true, respond: instead(307, "", "Location", "https://elsewhere.example/"), want: outcome{kind: "ca-error", says: `redirects to "https://elsewhere.example/"`}},
		{name: "redirect to itself", unseen: true, respond: instead(302, "", "Location", "?again"), want: outcome{kind: "ca-error", says: "redirects"}},
	}
}

package acme_test

import (
	"fmt"
	"net/http"
	"strings"

	"mxcert/cmd/mxcert-lab/ca"
)

// first has a fault for so many requests; afterwards the CA does what was asked.
func first(n int32, respond func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		if x.cell.faulty.Load() <= n {
			respond(x)
			return
		}
		after(0, func(good string) string { return good })(x)
	}
}

// untouched answers a request to finalize with the order as it was, and does nothing.
func untouched(x *exchange) {
	body := fmt.Sprintf(`{"status":"ready","identifiers":[{"type":"dns","value":"cell%d.example.org"}],"authorizations":[],"finalize":"https://%s%s"}`,
		x.cell.id, x.request.Host, x.request.URL.Path)
	instead(http.StatusOK, body, "Content-Type", "application/json")(x)
}

// lags are faults of CAs whose front ends, or whose own steps, lag behind each other.
func lags() []fault {
	only := func(e ...ca.Endpoint) []ca.Endpoint { return e }
	notReady := instead(http.StatusForbidden, problem("orderNotReady"))
	unknown := instead(http.StatusNotFound, problem("malformed"))
	over := func(status string) func(*exchange) {
		return after(0, strings.NewReplacer(`"status": "pending"`, `"status": "`+status+`"`).Replace)
	}
	nothingProven := outcome{kind: "ca-refused", stage: "authorization", says: "so nothing can be proven with this order", orders: 3}
	return []fault{
		{name: "deactivated at first", at: only(ca.Authz), respond: first(1, over("deactivated")), want: outcome{orders: 2}},
		{name: "expired at first", at: only(ca.Authz), respond: first(1, over("expired")), want: outcome{orders: 2}},
		{name: "invalid at first", at: only(ca.Authz), respond: first(1, over("invalid")), want: outcome{orders: 2}},
		{name: "deactivated", at: only(ca.Authz), respond: over("deactivated"), want: nothingProven},
		{name: "expired", at: only(ca.Authz), respond: over("expired"), want: nothingProven},
		{name: "revoked", at: only(ca.Authz), respond: over("revoked"), want: nothingProven},
		{name: "invalid", at: only(ca.Authz), respond: over("invalid"), want: nothingProven},
		{name: "not ready at first", unseen: true, at: only(ca.Finalize), respond: first(2, notReady)},
		{name: "not ready without end", unseen: true, at: only(ca.Finalize), respond: notReady,
			want: outcome{kind: "ca-error", says: "refused 6 requests for the certificate because it is not: says the test"}},
		{name: "ready after the request", unseen: true, at: only(ca.Finalize), respond: first(2, untouched)},
		{name: "ready after each request", unseen: true, at: only(ca.Finalize), respond: untouched, endless: true,
			want: outcome{kind: "ca-error", stage: "order", says: "still at work on the order (ready)"}},
		{name: "unknown at first", unseen: true, at: only(ca.Authz, ca.Order, ca.Certificate), respond: first(2, unknown)},
		{name: "unknown without end", unseen: true, at: only(ca.Authz, ca.Order), respond: unknown, want: outcome{kind: "ca-refused", permanent: true, orders: 2}},
	}
}

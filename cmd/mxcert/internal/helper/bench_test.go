package helper

import (
	"testing"

	"mxcert/cmd/mxcert-lab/issuer"
)

// BenchmarkDeployment is one deployment through the install helper: connect, plan, apply, hang up. The time that systemd takes to start the
// helper is not part of it.
func BenchmarkDeployment(b *testing.B) {
	h, ca := newHost(b), issuer.New(b)
	next, other := ca.Issue(b, life, "mx.example.org", "host7.example.org"), ca.Issue(b, life, "mx.example.org", "host7.example.org")
	b.ReportAllocs()
	for b.Loop() {
		plan := h.plan(next)
		h.check(plan.Apply(nil))
		h.check(plan.Close())
		next, other = other, next
	}
}

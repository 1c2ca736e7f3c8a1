package doctor

import (
	"context"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/deploy/dane"
)

// During a change of the key, the record of the old one is not somebody's, and not one to remove at once.
func TestTLSAOfAnOldKey(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{Signed: true}, lab.ConfigOptions{}).withDANE("{mode: \"off\"}")
	h.edit("    keys: [", "    reuse_key: false\n    keys: [")
	h.renew()
	old := dane.Record(bundle.SPKIOf(h.records().chains()[0][0].RawSubjectPublicKeyInfo)).String()
	h.renew()
	h.edit("mode: \"off\"", "mode: gate")
	h.edit("reuse_key: false", "reuse_key: true")
	h.check(h.World.Add("_25._tcp.mx.example.org. TLSA "+old, "_25._tcp.mx.example.org. TLSA "+dane.Record(bundle.SPKIOf(h.records().chains()[0][0].RawSubjectPublicKeyInfo)).String()))
	found := as("tlsa-others", h.records().others(t.Context()))
	if !found.has("tlsa-others", "warning", "is of an old key of this certificate") || !found.has("tlsa-others", "warning", "mxcert tlsa show mx says when it can be removed") || len(found) != 1 {
		t.Errorf("%s", found)
	}
}

// What could not be looked up is not well.
func TestTLSAWithoutDNS(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{}).withDANE("{mode: publish}")
	h.edit("resolvers: ", "resolvers: [\"127.0.0.1:9\"] # ")
	r := h.records()
	for what, test := range map[string]func(context.Context) []finding.Finding{"tlsa-servers": r.servers, "tlsa-signatures": r.signatures, "tlsa-others": r.others} {
		if found := as(what, test(t.Context())); found.has(what, "ok", "") {
			t.Errorf("%s", found)
		}
	}
}

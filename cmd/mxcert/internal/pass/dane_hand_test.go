package pass

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// issuerRecord is the record 2 1 1 of the intermediate in service.
func (h *daneHost) issuerRecord() string {
	h.t.Helper()
	chain, err := bundle.ParseChain([]byte(h.file("mx.crt")))
	h.check(err)
	return fmt.Sprintf("2 1 1 %x", sha256.Sum256(chain[1].RawSubjectPublicKeyInfo))
}

// otherCA puts another CA in the place of the lab's own.
func (h *daneHost) otherCA() {
	h.t.Helper()
	second := h.AddCA(h.t, ca.Options{})
	h.edit(fmt.Sprintf("directory: %q", h.CA.DirectoryURL()), fmt.Sprintf("directory: %q", second.DirectoryURL()))
}

// Mode check on a host whose records were made by hand: each kind of records, and each change of what is served. What senders would not accept
// any more is refused and leaves the files; what they accept, and what was broken or unused before, goes on.
func TestRecordsMadeByHand(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(h *daneHost) []string{
		"3 1 1":    func(h *daneHost) []string { return []string{h.record()} },
		"3 0 1":    func(h *daneHost) []string { return []string{h.wholeRecord()} },
		"2 1 1":    func(h *daneHost) []string { return []string{h.issuerRecord()} },
		"several":  func(h *daneHost) []string { return []string{h.record(), h.issuerRecord()} },
		"stale":    func(*daneHost) []string { return []string{"3 1 1 " + strings.Repeat("ab", 32)} },
		"unusable": func(*daneHost) []string { return []string{"1 1 1 " + strings.Repeat("ab", 32)} },
	}
	changes := map[string]struct {
		prepare func(h *daneHost)
		options Options
		refused []string // kinds
	}{
		"same key":           {func(*daneHost) {}, atOnce, []string{"3 0 1"}},
		"new key":            {func(*daneHost) {}, newKey, []string{"3 1 1", "3 0 1"}},
		"other intermediate": {func(h *daneHost) { h.CA.SetWrap(h.forged()) }, atOnce, []string{"3 0 1", "2 1 1"}},
		"other CA":           {(*daneHost).otherCA, atOnce, []string{"3 0 1", "2 1 1"}},
		"a CA that fails": {func(h *daneHost) {
			h.secondCA(ca.Options{})
			h.CA.SetWrap(ca.OutOfOrder(ca.NewOrder))
		}, atOnce, []string{"3 0 1", "2 1 1"}},
	}
	for kind, records := range kinds {
		for name, change := range changes {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newDANEHost(t, "mode: check", lab.Options{})
				h.noRoots()
				h.pass(report.CodeOK, renew)
				h.publish(records(h)...)
				h.pass(report.CodeOK, renew)
				change.prepare(h)
				h.changes(change.options, slices.Contains(change.refused, kind))
			})
		}
	}
}

// changes makes a pass that changes what is served, or is refused.
func (h *daneHost) changes(options Options, refused bool) {
	h.t.Helper()
	before, files, records := h.served(), h.file("mx.crt")+h.file("mx.key"), h.published()
	if !refused {
		if c := h.pass(report.CodeOK, options); h.served() == before {
			h.t.Errorf("nothing has changed: %+v, %q", c.Error, c.Warnings)
		}
		return
	}
	c := h.pass(report.CodeNotInService, options)
	if c.Error.Kind != kindDANE || h.file("mx.crt")+h.file("mx.key") != files {
		h.t.Fatalf("%s is served, and was %s: %+v", h.served(), before, c.Error)
	}
	if len(c.Error.Publish) == 0 {
		h.t.Fatalf("no record is shown: %+v", c.Error)
	}
	// The operator publishes what the message says. Senders then learn it, and the daemon goes on.
	for _, line := range c.Error.Publish {
		_, record, found := strings.Cut(line, " TLSA ")
		if !found {
			h.t.Fatalf("%q is no line of a zone file", line)
		}
		records = append(records, record)
	}
	h.publish(records...)
	h.until(patience, "the record is there", func(report.Certificate) bool { return h.served() != before })
}

// forged issues with another intermediate.
func (h *daneHost) forged() func(http.Handler) http.Handler {
	return newForge(h.t, time.Now().Add(10000*time.Hour)).wrap(func(*x509.Certificate) {})
}

package survey

import (
	"testing"

	"mxcert/acme/finding"
)

// TestMergedKeepsKinds: what senders of two kinds do otherwise is said of both, and the command that checks TLSA records stays beside the
// one that does not.
func TestMergedKeepsKinds(t *testing.T) {
	differ := finding.New("senders-differ", finding.Warning, "a message")
	odd := finding.New("not-judged", finding.Warning, "a message")
	seen := []finding.Finding{odd.About("192.0.2.1:25")}
	list := merged(seen, []finding.Finding{differ.About("pkix"), differ.About("dane"), differ.About("dane"), odd.About("mx.example.org"), odd.About("dane")})
	if len(list) != 4 {
		t.Errorf("got %d findings: %+v", len(list), list)
	}
}

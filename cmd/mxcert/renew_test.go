package main

import (
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
)

func TestFirstIssueIsServedAndSecondRunChangesNothing(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.report(exitOK, "renew")
	if c := first.Certificates[0]; !first.Changed || c.Stage != stageServed || len(c.Endpoints) == 0 || !c.Endpoints[0].Matches {
		t.Fatalf("first run: %+v", first)
	}
	second := h.report(exitOK, "renew")
	if second.Changed || second.Certificates[0].Keys[0].Serial != first.Certificates[0].Keys[0].Serial {
		t.Fatalf("second run: %+v", second)
	}
}

package alarm

import (
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
)

// TestWhenResponsesAreTold: a responder that is down for a while is no news, and what ends soon is.
func TestWhenResponsesAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*report.Certificate)
		id     string
		worst  finding.Severity
		age    time.Duration
	}{
		"good": {func(r *report.Certificate) { r.Keys[0].OCSP = stapled(48*time.Hour, "", "", "") }, "", "", 0},
		"down, and the response lives long enough": {func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(43*time.Hour, "ocsp-unavailable", "down", "wait")
		}, "", "", 0},
		"unknown, and the response lives long enough": {func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(43*time.Hour, "ocsp-unknown", "unknown", "wait")
		}, "", "", 0},
		"down, and a quarter is left": {func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(41*time.Hour, "ocsp-unavailable", "down", "wait")
		}, ocspResponse, finding.Warning, 0},
		"the same, and Exim needs it": {func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(41*time.Hour, "ocsp-unavailable", "down", "wait")
			r.Keys[0].OCSP.Needed = true
		}, ocspResponse, finding.Error, 0},
		"expired": {func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(0, "ocsp-invalid", "a bad answer", "wait")
		}, ocspResponse, finding.Warning, 0},
		"never had one": {func(r *report.Certificate) {
			r.Keys[0].OCSP = &report.OCSP{Status: "unknown", Kind: "ocsp-unknown", Error: "unknown"}
		}, ocspResponse, finding.Warning, firstResponse},
		"revoked": {func(r *report.Certificate) {
			r.Keys[0].OCSP = stapled(100*time.Hour, "ocsp-revoked", "revoked", "replace it")
			r.Error, r.Code = &report.Error{Stage: "ocsp", Kind: "ocsp-revoked", Message: "revoked"}, report.CodeFailed
		}, ocspRevoked, finding.Error, 0},
		"a renewal waits": {func(r *report.Certificate) {
			r.Keys[0].OCSP = &report.OCSP{Status: "unknown", Kind: "ocsp-unknown", Error: "unknown"}
			r.Error, r.OutOfService, r.Code = &report.Error{Stage: "deploy", Kind: "ocsp-unknown", Message: "unknown; the one in place stays"}, true, report.CodeNotInService
		}, ocspWaits, finding.Warning, firstResponse},
		"a fight": {func(r *report.Certificate) {
			r.Error, r.HeldOnly, r.Code = &report.Error{Stage: "ocsp", Kind: "drift", Message: "something else keeps changing"}, true, report.CodeFailed
		}, "drift", finding.Error, 0},
		"sent":      {func(r *report.Certificate) { r.Endpoints[0].OCSP = "good" }, "", "", 0},
		"not sent":  {func(r *report.Certificate) { r.Endpoints[0].OCSP = "none" }, ocspNotSent, finding.Warning, secondLook},
		"a bad one": {func(r *report.Certificate) { r.Endpoints[0].OCSP = "invalid" }, ocspNotSent, finding.Warning, secondLook},
	} {
		t.Run(name, func(t *testing.T) {
			r := well("mx")
			c.change(&r)
			list := matters(tell.Certificate{Report: r, At: noon}, noon)
			if c.id == "" {
				if len(list) > 0 {
					t.Errorf("%+v", list)
				}
				return
			}
			if len(list) != 1 || list[0].ID != c.id || list[0].Severity != c.worst || list[0].age != c.age || list[0].passes > 0 {
				t.Errorf("%+v", list)
			}
			if pair, ok := titles[c.id]; !ok || pair[0] == "" || pair[1] == "" {
				t.Errorf("%s has no title", c.id)
			}
		})
	}
}

package verdict

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
)

// sends is what a server sends.
func sends(list ...*entity) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, e := range list {
		chain = append(chain, e.Certificate)
	}
	return chain
}

// TestFitTLSA judges one chain against one set, as senders without and with digest agility do.
func TestFitTLSA(t *testing.T) {
	t.Parallel()
	const fits, misses, unchecked, unknown = "fits", "misses", "unchecked", "unknown"
	sent, names := sends(good, inter), []string{"mx.example.org"}
	expired := server("ecdsa", inter, until(now.Add(-time.Hour)))
	short := tlsa(3, 1, 1, good)
	short.Data = short.Data[1:]
	undated := authority("Undated Intermediate", root, until(now.Add(-day)))
	silent := authority("Silent Intermediate", nil, func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA, c.KeyUsage = false, false, 0 })
	for name, test := range map[string]struct {
		records       []resolve.TLSA
		chain         []*x509.Certificate
		names         []string
		plain, agile  string
		reason, doubt string
	}{
		"no records":                        {nil, sent, names, unchecked, unchecked, "", ""},
		"3 1 1":                             {[]resolve.TLSA{tlsa(3, 1, 1, good)}, sent, nil, fits, fits, "", ""},
		"3 0 1":                             {[]resolve.TLSA{tlsa(3, 0, 1, good)}, sent, nil, fits, fits, "", ""},
		"3 1 2":                             {[]resolve.TLSA{tlsa(3, 1, 2, good)}, sent, nil, fits, fits, "", ""},
		"3 1 0":                             {[]resolve.TLSA{tlsa(3, 1, 0, good)}, sent, nil, fits, fits, "", ""},
		"3 0 0":                             {[]resolve.TLSA{tlsa(3, 0, 0, good)}, sent, nil, fits, fits, "", ""},
		"stale":                             {[]resolve.TLSA{stale(3, 1, 1)}, sent, nil, misses, misses, "no record matches its key", ""},
		"stale beside a right one":          {[]resolve.TLSA{stale(3, 1, 1), tlsa(3, 1, 1, good)}, sent, nil, fits, fits, "", ""},
		"a stronger digest is stale":        {[]resolve.TLSA{stale(3, 1, 2), tlsa(3, 1, 1, good)}, sent, nil, fits, misses, "no record matches its key", ""},
		"a weaker digest is stale":          {[]resolve.TLSA{stale(3, 1, 1), tlsa(3, 1, 2, good)}, sent, nil, fits, fits, "", ""},
		"a stronger one of other selectors": {[]resolve.TLSA{stale(3, 0, 2), tlsa(3, 1, 1, good)}, sent, nil, fits, fits, "", ""},
		"a full one is always used":         {[]resolve.TLSA{stale(3, 1, 2), tlsa(3, 1, 0, good)}, sent, nil, fits, fits, "", ""},
		"a stronger one that is unusable":   {[]resolve.TLSA{{Usage: 3, Selector: 1, MatchingType: 2, Data: []byte{1}}, tlsa(3, 1, 1, good)}, sent, nil, fits, fits, "", ""},
		"usages 0 and 1":                    {[]resolve.TLSA{tlsa(1, 1, 1, good), tlsa(0, 0, 1, inter)}, sent, nil, unchecked, unchecked, "", ""},
		"a cut digest":                      {[]resolve.TLSA{short}, sent, nil, unchecked, unchecked, "", ""},
		"unusable beside a stale one":       {[]resolve.TLSA{short, stale(3, 1, 1)}, sent, nil, misses, misses, "no record matches its key", ""},
		"2 1 1":                             {[]resolve.TLSA{tlsa(2, 1, 1, inter)}, sent, names, fits, fits, "", ""},
		"2 0 1 of the root, which is sent":  {[]resolve.TLSA{tlsa(2, 0, 1, root)}, sends(good, inter, root), names, fits, fits, "", ""},
		"2 0 1 of the root, not sent":       {[]resolve.TLSA{tlsa(2, 0, 1, root)}, sent, names, misses, misses, "no record matches an issuer that is sent with it", ""},
		"2 0 0 of the root, not sent":       {[]resolve.TLSA{tlsa(2, 0, 0, root)}, sent, names, fits, fits, "", ""},
		"2 1 1, another name":               {[]resolve.TLSA{tlsa(2, 1, 1, inter)}, sent, []string{"mx.example.net"}, misses, misses, "it is not valid for mx.example.net, but for mx.example.org", ""},
		"2 1 1, one of the names":           {[]resolve.TLSA{tlsa(2, 1, 1, inter)}, sent, []string{"example.net", "mx.example.org"}, fits, fits, "", ""},
		"2 1 1, expired":                    {[]resolve.TLSA{tlsa(2, 1, 1, inter)}, sends(expired, inter), names, misses, misses, "on the way to the issuer that a usage 2 record names, it expired at 2026-11-01T11:00:00Z", ""},
		"3 1 1, expired":                    {[]resolve.TLSA{tlsa(3, 1, 1, expired)}, sends(expired), nil, fits, fits, "", ""},
		"2 1 1 of an expired issuer":        {[]resolve.TLSA{tlsa(2, 1, 1, undated)}, sends(server("ecdsa", undated), undated), names, fits, fits, "", ""},
		"2 1 1 of another issuer":           {[]resolve.TLSA{tlsa(2, 1, 1, privateCA)}, sent, names, misses, misses, "no record matches an issuer that is sent with it", ""},
		"2 1 1 or 3 1 1":                    {[]resolve.TLSA{stale(3, 1, 1), tlsa(2, 1, 1, privateCA)}, sent, names, misses, misses, "no record matches its key or an issuer that is sent with it", ""},
		"an issuer that says nothing":       {[]resolve.TLSA{tlsa(2, 1, 1, silent)}, sends(good, silent), names, unknown, unknown, "", "does not say whether it is a CA"},
		"no certificate":                    {[]resolve.TLSA{tlsa(3, 1, 1, good)}, nil, nil, misses, misses, "there is no certificate", ""},
		"no certificate, nobody checks":     {[]resolve.TLSA{short}, nil, nil, unchecked, unchecked, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, agile := range []bool{false, true} {
				fit, want := FitTLSA(test.records, test.chain, test.names, now, agile), test.plain
				if agile {
					want = test.agile
				}
				if got := word(fit); got != want {
					t.Errorf("agile %v: %s (%+v), want %s", agile, got, fit, want)
				}
				if want == misses && fit.Reason != test.reason {
					t.Errorf("agile %v: it is refused because %q, want %q", agile, fit.Reason, test.reason)
				}
				if want == unknown && !strings.Contains(fit.NotJudged, test.doubt) {
					t.Errorf("agile %v: not judged because %q, want %q", agile, fit.NotJudged, test.doubt)
				}
			}
		})
	}
}

func word(f Fit) string {
	switch {
	case f.NotJudged != "" && !f.Accepts && f.Checked:
		return "unknown"
	case f.Accepts && f.Checked:
		return "fits"
	case f.Accepts:
		return "unchecked"
	case f.Checked && f.Reason != "":
		return "misses"
	}
	return "nonsense"
}

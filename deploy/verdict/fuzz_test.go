package verdict

import (
	"crypto/x509"
	"testing"

	"mxcert/acme/resolve"
	"mxcert/deploy/starttls"
)

// FuzzTLSA: whatever a record holds, nothing panics, and DANE passes only if the record really holds the certificate, the key or an issuer.
func FuzzTLSA(f *testing.F) {
	for _, e := range []*entity{good, inter, root, other} {
		for _, numbers := range [][3]uint8{{3, 1, 1}, {3, 1, 2}, {3, 0, 0}, {3, 1, 0}, {2, 0, 0}, {2, 1, 0}, {2, 1, 1}, {1, 1, 1}, {3, 2, 1}} {
			r := tlsa(numbers[0], numbers[1], numbers[2], e)
			f.Add(r.Usage, r.Selector, r.MatchingType, r.Data)
		}
	}
	f.Add(uint8(3), uint8(0), uint8(0), peculiarCertificate())
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		verdicts, findings := Judge(facts(publishes(record(usage, selector, matching, data))))
		sound(t, verdicts, findings)
		r := record(usage, selector, matching, data)
		if verdicts[DANE].Result == Pass && !matches(r, good.Certificate) && !matches(r, inter.Certificate) && !matches(r, root.Certificate) {
			t.Errorf("%s %x passes", combination(r), data)
		}
		// Without the strongest digests alone, no more is refused, and the verdict is that of the record set.
		list, sent := []resolve.TLSA{r, stale(3, 1, 1)}, sends(good, inter)
		plain, agile := FitTLSA(list, sent, []string{"mx.example.org"}, now, false), FitTLSA(list, sent, []string{"mx.example.org"}, now, true)
		if word(plain) == "nonsense" || word(agile) == "nonsense" || agile.Accepts && !plain.Accepts {
			t.Errorf("%s %x: %+v, agile %+v", combination(r), data, plain, agile)
		}
		if fit := FitTLSA(list[:1], sent, []string{"mx.example.org"}, now, true); (verdicts[DANE].Result == Pass) != (fit.Accepts && fit.Checked) {
			t.Errorf("%s %x: the verdict is %+v, the fit %+v", combination(r), data, verdicts[DANE], fit)
		}
	})
}

// FuzzChain: whatever a server sends, nothing panics, and only a chain that was really issued passes.
func FuzzChain(f *testing.F) {
	f.Add(good.Raw, inter.Raw, root.Raw, true)
	f.Add(mine.Raw, privateCA.Raw, private.Raw, false)
	f.Add(good.Raw, good.Raw, good.Raw, true)
	f.Add(inter.Raw, good.Raw, inter.Raw, true)
	f.Fuzz(func(t *testing.T, first, second, third []byte, issuer bool) {
		result := &starttls.Result{Version: 0x0304}
		for _, der := range [][]byte{first, second, third} {
			if c, err := x509.ParseCertificate(der); err == nil {
				result.Chain = append(result.Chain, c)
			}
		}
		if len(result.Chain) == 0 {
			return
		}
		published := tlsa(3, 1, 1, good)
		if issuer {
			published = tlsa(2, 1, 1, inter)
		}
		verdicts, findings := Judge(facts(publishes(published), func(f *Facts) {
			f.Handshakes = []Handshake{{ServerName: "mx.example.org", Ask: starttls.Any, Shown: result}}
		}))
		sound(t, verdicts, findings)
		ours := result.Chain[0].Equal(good.Certificate)
		if spki := string(result.Chain[0].RawSubjectPublicKeyInfo) == string(good.RawSubjectPublicKeyInfo); !ours && (verdicts[PKIX].Result == Pass || verdicts[DANE].Result == Pass && (issuer || !spki)) {
			t.Errorf("passes: %+v", verdicts)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	for _, bench := range []struct {
		name  string
		edits []edit
	}{
		{"right", nil},
		{"usage 2", []edit{publishes(tlsa(2, 1, 1, inter))}},
		{"private CA", []edit{serves(mine, privateCA)}},
		{"two keys", []edit{also("mx.example.org", starttls.RSA, goodRSA, inter), publishes(tlsa(3, 1, 1, good), tlsa(3, 1, 1, goodRSA))}},
		{"100 records", []edit{publishes(many(100)...)}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f := facts(bench.edits...)
			for b.Loop() {
				Judge(f)
			}
		})
	}
}

func many(n int) (records []resolve.TLSA) {
	for i := range n {
		data := make([]byte, 32)
		data[0] = byte(i)
		records = append(records, record(3, 1, 1, data))
	}
	return records
}

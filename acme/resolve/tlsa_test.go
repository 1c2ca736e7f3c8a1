package resolve_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

func TestParseTLSA(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"3 1 1 00ff": "3 1 1 00ff", " 2\t0 2  00FF Aa ": "2 0 2 00ffaa", "255 255 255 00": "255 255 255 00",
		"": "", "3 1 1": "", "3 1 1 ": "", "3 1 1 0": "", "3 1 1 0g": "", "256 1 1 00": "", "-1 1 1 00": "", "x 1 1 00": "", "3 1 1 00 ; remark": "",
	} {
		r, err := resolve.ParseTLSA(text)
		if (err == nil) != (want != "") || err == nil && r.String() != want {
			t.Errorf("%q: %s, %v; want %q", text, r, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "TLSA record") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseTLSA(f *testing.F) {
	f.Add("3 1 1 00ff")
	f.Add("2 0 0 00FF 11")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := resolve.ParseTLSA(text)
		if err != nil {
			return
		}
		if again, err := resolve.ParseTLSA(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q: %s, then %s, %v", text, r, again, err)
		}
	})
}

func TestTLSAMatches(t *testing.T) {
	t.Parallel()
	certificate, key := []byte("certificate"), []byte("key")
	one, two := sha256.Sum256(key), sha512.Sum512(certificate)
	for _, tt := range []struct {
		r                resolve.TLSA
		certificate, key []byte
		want             bool
	}{
		{resolve.TLSA{Selector: 1, Data: key}, certificate, key, true},
		{resolve.TLSA{Selector: 0, Data: certificate}, certificate, key, true},
		{resolve.TLSA{Selector: 0, Data: key}, certificate, key, false},
		{resolve.TLSA{Selector: 1, MatchingType: 1, Data: one[:]}, nil, key, true},
		{resolve.TLSA{Selector: 1, MatchingType: 1, Data: one[:31]}, nil, key, false},
		{resolve.TLSA{Selector: 0, MatchingType: 1, Data: one[:]}, certificate, key, false},
		{resolve.TLSA{Selector: 0, MatchingType: 2, Data: two[:]}, certificate, key, true},
		{resolve.TLSA{Selector: 0, Data: nil}, nil, key, false}, // not known, so nothing fits it
		{resolve.TLSA{Selector: 2, Data: key}, certificate, key, false},
		{resolve.TLSA{Selector: 1, MatchingType: 3, Data: key}, certificate, key, false},
	} {
		if got := tt.r.Matches(tt.certificate, tt.key); got != tt.want {
			t.Errorf("%s: %v", tt.r, got)
		}
	}
}

package ocsp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"mxcert/deploy/ocsp"
)

// authority issues certificates and responses.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return authority{sign(t, template, template, key.Public(), key), key}
}

// intermediate makes an authority below this one.
func (a authority) intermediate(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return authority{sign(t, template, a.cert, key.Public(), a.key), key}
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// issue makes a certificate that names responders.
func (a authority) issue(t *testing.T, serial int64, change func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "mx.example.org"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if change != nil {
		change(template)
	}
	return sign(t, template, a.cert, key.Public(), a.key), key
}

// says makes a response that the authority signs itself.
func (a authority) says(t *testing.T, serial int64, change func(*xocsp.Response)) []byte {
	t.Helper()
	return response(t, a.cert, a.cert, a.key, serial, change)
}

func response(t *testing.T, issuer, responder *x509.Certificate, key crypto.Signer, serial int64, change func(*xocsp.Response)) []byte {
	t.Helper()
	template := xocsp.Response{Status: xocsp.Good, SerialNumber: big.NewInt(serial), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	if !bytes.Equal(issuer.Raw, responder.Raw) {
		template.Certificate = responder
	}
	if change != nil {
		change(&template)
	}
	der, err := xocsp.CreateResponse(issuer, responder, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// forResponses makes a certificate that may sign responses.
func forResponses(c *x509.Certificate) {
	c.Subject.CommonName, c.ExtKeyUsage = "responder", []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
}

func TestParse(t *testing.T) {
	ca, other := newAuthority(t, "the root"), newAuthority(t, "another CA")
	ca = ca.intermediate(t, "the CA") // as all that issue for mail hosts: it has not signed its own certificate
	twin := newAuthority(t, "the CA")
	inside := func(c *x509.Certificate, by authority) []byte {
		return response(t, by.cert, by.cert, by.key, 7, func(r *xocsp.Response) { r.Certificate = c })
	}
	leaf, leafKey := ca.issue(t, 7, nil)
	delegate, delegateKey := ca.issue(t, 8, forResponses)
	old, oldKey := ca.issue(t, 9, func(c *x509.Certificate) {
		forResponses(c)
		c.NotBefore, c.NotAfter = time.Now().Add(-3*time.Hour), time.Now().Add(-2*time.Hour)
	})
	foreign, foreignKey := other.issue(t, 8, forResponses)
	flipped := ca.says(t, 7, nil)
	flipped[len(flipped)-5] ^= 1
	for name, c := range map[string]struct {
		der  []byte
		want ocsp.Status
		err  string
	}{
		"good":                        {ca.says(t, 7, nil), ocsp.Good, ""},
		"certificate ID with SHA-256": {ca.says(t, 7, func(r *xocsp.Response) { r.IssuerHash = crypto.SHA256 }), ocsp.Good, ""},
		"revoked": {ca.says(t, 7, func(r *xocsp.Response) {
			r.Status, r.RevokedAt, r.RevocationReason = xocsp.Revoked, time.Now().Add(-time.Hour), xocsp.KeyCompromise
		}), ocsp.Revoked, ""},
		"unknown":                {ca.says(t, 7, func(r *xocsp.Response) { r.Status = xocsp.Unknown }), ocsp.Unknown, ""},
		"no end":                 {ca.says(t, 7, func(r *xocsp.Response) { r.NextUpdate = time.Time{} }), ocsp.Good, ""},
		"clock a little behind":  {ca.says(t, 7, func(r *xocsp.Response) { r.ThisUpdate = time.Now().Add(2 * time.Minute) }), ocsp.Good, ""},
		"issuer inside":          {inside(ca.cert, ca), ocsp.Good, ""},
		"issuer of its key":      {inside(sign(t, ca.cert, ca.cert, ca.key.Public(), ca.key), ca), ocsp.Good, ""},
		"delegated responder":    {response(t, ca.cert, delegate, delegateKey, 7, nil), ocsp.Good, ""},
		"of another certificate": {ca.says(t, 6, nil), "", "no response matching"},
		"from the future": {ca.says(t, 7, func(r *xocsp.Response) {
			r.ThisUpdate = time.Now().Add(time.Hour)
			r.NextUpdate = time.Now().Add(2 * time.Hour)
		}), "", "not valid before"},
		"ends before it begins":       {ca.says(t, 7, func(r *xocsp.Response) { r.NextUpdate = r.ThisUpdate.Add(-time.Hour) }), "", "ends before it begins"},
		"signed by another CA":        {other.says(t, 7, nil), "", "is not signed by"},
		"signed by a CA of that name": {twin.says(t, 7, nil), "", "is not signed by"},
		"another CA inside":           {inside(other.cert, other), "", "has not issued"},
		"a CA of that name inside":    {inside(twin.cert, twin), "", "has not issued"},
		"issuer inside, other key":    {inside(ca.cert, other), "", "embedded"},
		"about another issuer":        {response(t, other.cert, ca.cert, ca.key, 7, func(r *xocsp.Response) { r.Certificate = nil }), "", "another issuer"},
		"responder may not sign":      {response(t, ca.cert, leaf, leafKey, 7, nil), "", "no OCSPSigning"},
		"responder of another CA":     {response(t, ca.cert, foreign, foreignKey, 7, nil), "", "has not issued"},
		"responder has expired":       {response(t, ca.cert, old, oldKey, 7, nil), "", "only"},
		"changed on the way":          {flipped, "", "is not signed by"},
		"an error of the responder":   {xocsp.UnauthorizedErrorResponse, "", "unauthorized"},
		"text":                        {[]byte("<html>"), "", "cannot be used"},
		"nothing":                     {nil, "", "cannot be used"},
		"something after it":          {append(ca.says(t, 7, nil), 0), "", "trailing data"},
		"too large":                   {make([]byte, ocsp.Largest+1), "", "larger than 64 KiB"},
		"a critical extension": {ca.says(t, 7, func(r *xocsp.Response) {
			r.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), "", "critical extension"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ocsp.Parse(c.der, leaf, ca.cert, time.Now())
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err == "":
				if got.Status != c.want || got.NextUpdate.Before(got.ThisUpdate) || got.Expired(time.Now()) {
					t.Errorf("%+v", got)
				}
				if (got.Problem("07") == nil) != (c.want == ocsp.Good) {
					t.Errorf("problem: %v", got.Problem("07"))
				}
			case err == nil || !strings.Contains(err.Error(), c.err):
				t.Errorf("got the error %v, not %q", err, c.err)
			}
		})
	}
	if revoked, _ := ocsp.Parse(ca.says(t, 7, func(r *xocsp.Response) {
		r.Status, r.RevokedAt, r.RevocationReason = xocsp.Revoked, time.Now(), xocsp.KeyCompromise
	}), leaf, ca.cert, time.Now()); revoked == nil || !strings.Contains(revoked.Problem("07").Error(), "keyCompromise") {
		t.Error("the reason of the revocation is not told")
	}
}

// TestFetch asks real HTTP servers.
func TestFetch(t *testing.T) {
	ca := newAuthority(t, "the CA")
	good := ca.says(t, 7, nil)
	answer := func(kind string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(body)
		}
	}
	const media = "application/ocsp-response"
	onlyPOST := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		answer(media, good)(w, r)
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		err     string
	}{
		"good":               {answer(media, good), ""},
		"type is missing":    {func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil; _, _ = w.Write(good) }, ""},
		"only POST":          {onlyPOST, ""},
		"redirect":           {redirectOnce(answer(media, good)), ""},
		"redirects for ever": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x"+r.URL.Path, http.StatusFound) }, "gave no usable answer"},
		"redirect to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "gave no usable answer"},
		"error 500": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }, "500"},
		"a page":    {answer("text/html", []byte("<html>Sign in</html>")), "text/html"},
		"a flood":   {answer(media, make([]byte, 10<<20)), "larger than 64 KiB"},
		"expired": {answer(media, ca.says(t, 7, func(r *xocsp.Response) {
			r.ThisUpdate = time.Now().Add(-2 * time.Hour)
			r.NextUpdate = time.Now().Add(-time.Hour)
		})), "expired"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "gave no usable answer"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			leaf, _ := ca.issue(t, 7, func(l *x509.Certificate) { l.OCSPServer = []string{"ldap://x", server.URL} })
			got, err := ocsp.Fetch(t.Context(), leaf, ca.cert)
			if c.err == "" && (err != nil || got.Status != ocsp.Good) {
				t.Fatalf("%v %v", got, err)
			}
			if c.err != "" {
				e, ok := errors.AsType[*ocsp.Error](err)
				if !ok || e.Kind() != ocsp.KindUnavailable || !e.Temporary() || e.Hint() == "" || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, _ := ca.issue(t, 7, func(l *x509.Certificate) { l.OCSPServer = []string{"http://192.0.2.1"} })
	if _, err := ocsp.Fetch(ctx, silent, ca.cert); err == nil {
		t.Error("an interrupted request gave no error")
	}
	// A name that is too long for a request by GET, when the process ends.
	silent, _ = ca.issue(t, 7, func(l *x509.Certificate) { l.OCSPServer = []string{"http://192.0.2.1/" + strings.Repeat("x", 300)} })
	if _, err := ocsp.Fetch(ctx, silent, ca.cert); err == nil {
		t.Error("an interrupted request gave no error")
	}
	without, _ := ca.issue(t, 7, func(l *x509.Certificate) { l.OCSPServer = []string{"ldap://x", "file:///x", "http://user@x/"} })
	if _, err := ocsp.Fetch(t.Context(), without, ca.cert); err == nil || ocsp.Responder(without) != "" {
		t.Error("a responder that is not on the web was asked")
	}
}

func redirectOnce(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/elsewhere") {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		next(w, r)
	}
}

// FuzzParse: no bytes make Parse panic, and none that it accepts without the key of the CA.
func FuzzParse(f *testing.F) {
	var t testing.T
	ca := newAuthority(&t, "the CA")
	leaf, _ := ca.issue(&t, 7, nil)
	good := ca.says(&t, 7, nil)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, der []byte) {
		if got, err := ocsp.Parse(der, leaf, ca.cert, time.Now()); err == nil && !bytes.Equal(got.DER, der) {
			t.Error("other bytes came back")
		}
	})
}

// A pass that is stopped has no time for a question that is too long for GET.
func TestFetchStopped(t *testing.T) {
	a := newAuthority(t, "CA")
	leaf, _ := a.issue(t, 5, func(c *x509.Certificate) { c.OCSPServer = []string{"http://ocsp.example/" + strings.Repeat("a", 200)} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := ocsp.Fetch(ctx, leaf, a.cert); r != nil || err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("%v, %v", r, err)
	}
}

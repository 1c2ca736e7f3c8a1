package ca_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"mxcert/cmd/mxcert-lab/ca"
)

// keyDigest is the value of the TXT record (RFC 8555 section 8.4).
func keyDigest(t *testing.T, core *api.Core, token string) string {
	t.Helper()
	authorization, err := core.GetKeyAuthorization(token)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(authorization))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// certID is the name of a certificate in renewal information (RFC 9773 section 4.1).
func certID(leaf *x509.Certificate) string {
	serial := leaf.SerialNumber.Bytes()
	if leaf.SerialNumber.BitLen()%8 == 0 { // as DER has it
		serial = append([]byte{0}, serial...)
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

func TestRenewalInfo(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true, Profiles: map[string]time.Duration{"short": 5 * time.Minute}})
	core := register(t, c)
	client := httpClient(t, c)
	ask := func(leaf *x509.Certificate) (*http.Response, []byte) {
		t.Helper()
		return get(t, client, core.GetDirectory().RenewalInfo+"/"+certID(leaf))
	}
	long := issue(t, core, nil, "mx.example.org")[0]
	_, body := ask(long)
	if start, end := window(t, body); end.Sub(start) != 48*time.Hour {
		t.Errorf("for 90 days the window is %s wide, want Pebble's two days", end.Sub(start))
	}
	short := issue(t, core, &api.OrderOptions{Profile: "short"}, "mx.example.org")[0]
	response, body := ask(short)
	start, end := window(t, body)
	if got := start.Sub(short.NotBefore).Round(time.Second); got != 199*time.Second && got != 200*time.Second {
		t.Errorf("for 5 minutes the window begins after %s, want two thirds", got)
	}
	if got := end.Sub(start).Round(time.Second); got != 6*time.Second {
		t.Errorf("for 5 minutes the window is %s wide, want 2 %%", got)
	}
	if got := response.Header.Get("Retry-After"); got != "29" {
		t.Errorf("for 5 minutes Retry-After is %q s, want a tenth", got)
	}
	other := *short
	other.AuthorityKeyId = []byte{1, 2, 3}
	if response, _ := ask(&other); response.StatusCode != http.StatusBadRequest {
		t.Errorf("another authority's certificate is answered with %s", response.Status)
	}

	from, to := time.Now().Add(time.Minute).UTC().Truncate(time.Second), time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	if err := c.SetRenewalWindow(short.SerialNumber, from, to); err != nil {
		t.Fatal(err)
	}
	_, body = ask(short)
	if start, end := window(t, body); !start.Equal(from) || !end.Equal(to) {
		t.Errorf("the window that was set is %s to %s", start, end)
	}
	if err := c.SetRenewalInfo(short.SerialNumber, "nonsense"); err != nil {
		t.Fatal(err)
	}
	if _, body = ask(short); string(body) != "nonsense" {
		t.Errorf("the body that was set is %q", body)
	}
	if err := c.SetRenewalInfo(short.SerialNumber, ""); err != nil {
		t.Fatal(err)
	}
	_, body = ask(short)
	if again, _ := window(t, body); !again.Equal(start) {
		t.Errorf("the CA's own window begins at %s, and at %s once it is back", start, again)
	}
	if err := c.SetRenewalInfo(big.NewInt(1), "x"); err == nil {
		t.Error("an unknown certificate takes renewal information")
	}
}

func TestRevocation(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true, Validity: 5 * time.Minute})
	core := register(t, c)
	leaf := issue(t, core, nil, "mx.example.org")[0]
	if _, revoked := c.Revoked(leaf.SerialNumber); revoked {
		t.Error("it is revoked already")
	}
	reason := uint(4)
	err := core.Certificates.Revoke(acme.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(leaf.Raw), Reason: &reason})
	if err != nil {
		t.Fatal(err)
	}
	if got, revoked := c.Revoked(leaf.SerialNumber); !revoked || got != reason {
		t.Errorf("revoked %v for reason %d", revoked, got)
	}
	_, body := get(t, httpClient(t, c), core.GetDirectory().RenewalInfo+"/"+certID(leaf))
	if _, end := window(t, body); !end.Before(time.Now()) {
		t.Errorf("the window of a revoked certificate ends at %s", end)
	}
}

// TestReplaces orders a successor, twice (RFC 9773 section 5).
func TestReplaces(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true})
	core := register(t, c)
	first := issue(t, core, nil, "mx.example.org")[0]
	issue(t, core, &api.OrderOptions{ReplacesCertID: certID(first)}, "mx.example.org")
	c.ResetRequests()
	if _, err := core.Orders.NewWithOptions([]string{"mx.example.org"}, &api.OrderOptions{ReplacesCertID: certID(first)}); err != nil {
		t.Fatal(err) // lego repeats the order without the field when it is refused
	}
	if r := c.Requests(); len(r) != 2 || r[0].Status != http.StatusConflict || r[1].Status != http.StatusCreated {
		t.Errorf("the second replacement: %+v", r)
	}
	if got := len(c.Issued()); got != 2 {
		t.Errorf("%d certificates issued, want 2", got)
	}
}

// dice are random numbers. Those of eight bytes, as Pebble makes serials of, have 56 bits.
type dice struct{ io.Reader }

func (d dice) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if n == 8 {
		p[0], p[1] = 0, p[1]|0x80
	}
	return n, err
}

// loaded is set in the environment of a process that has such dice.
const loaded = "MXCERT_TEST_LOADED_DICE"

func TestMain(m *testing.M) {
	if os.Getenv(loaded) != "" {
		rand.Reader = dice{rand.Reader} // before anybody reads it
	}
	os.Exit(m.Run())
}

// TestReplacesWithLeadingZero: a serial whose first bit is set has a zero byte before it in the identifier. One of Pebble's in 256 is such.
func TestReplacesWithLeadingZero(t *testing.T) {
	if os.Getenv(loaded) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), loaded+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	c := start(t, ca.Options{SkipValidation: true})
	core := register(t, c)
	leaf := issue(t, core, nil, "mx.example.org")[0]
	if leaf.SerialNumber.BitLen() != 56 {
		t.Fatalf("serial %x", leaf.SerialNumber)
	}
	c.ResetRequests()
	issue(t, core, &api.OrderOptions{ReplacesCertID: certID(leaf)}, "mx.example.org")
	if _, err := core.Orders.NewWithOptions([]string{"mx.example.org"}, &api.OrderOptions{ReplacesCertID: certID(leaf)}); err != nil {
		t.Fatal(err)
	}
	var statuses []int
	for _, r := range c.Requests() {
		if r.Endpoint == ca.NewOrder {
			statuses = append(statuses, r.Status)
		}
	}
	if !slices.Equal(statuses, []int{http.StatusCreated, http.StatusConflict, http.StatusCreated}) {
		t.Errorf("serial %x: %d", leaf.SerialNumber, statuses)
	}
}

// TestPlain: without TLS the directory's URLs are those that Pebble accepts in signed requests.
func TestPlain(t *testing.T) {
	c := start(t, ca.Options{Plain: true})
	response, body := get(t, http.DefaultClient, c.DirectoryURL())
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), strings.Replace(c.DirectoryURL(), "http:", "https:", 1)[:len(c.DirectoryURL())-3]) {
		t.Errorf("%s: %s: %s", c.DirectoryURL(), response.Status, body)
	}
}

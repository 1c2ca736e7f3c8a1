package acme_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// yardstick is what an order cannot do without, and nothing else: the requests of RFC 8555, each sent as soon as the
// protocol gives what it needs, and one UPDATE. It checks nothing, stores nothing, waits for no name server, and knows
// nothing that the CA does not tell: it finds out by asking again and again when a validation is done.
//
// Each request needs a nonce that no other has used (section 6.5), and an answer brings only one: so many requests can be
// under way at once as nonces were fetched, each by a request of its own. lanes is how many it takes, and bears on both
// the time and the number of requests.
type yardstick struct {
	client    *http.Client
	directory string
	lanes     int
	key       *ecdsa.PrivateKey
	kid       string // URL of the account; "" before there is one
	server    string // takes the UPDATE
	tsigName  string
	tsig      string
	zone      string

	nonces   chan string
	requests atomic.Int64
	resource struct{ NewNonce, NewOrder, NewAccount string }
}

// pollPause is between two looks at an order: so short that what it adds is not worth mentioning, so long that the
// looks do not slow the CA down, which is in the same process.
const pollPause = 2 * time.Millisecond

func newYardstick(directory string, roots *x509.CertPool, lanes int) *yardstick {
	return &yardstick{directory: directory, lanes: lanes, nonces: make(chan string, 100),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: lanes}}}
}

func (y *yardstick) close() { y.client.CloseIdleConnections() }

type bareOrder struct {
	Status, Finalize, Certificate string
	Authorizations                []string
}

// order is a whole order.
func (y *yardstick) order(ctx context.Context, names []string) error {
	if y.resource.NewOrder == "" {
		if err := y.begin(ctx); err != nil {
			return err
		}
	}
	identifiers := make([]map[string]string, len(names))
	for i, name := range names {
		identifiers[i] = map[string]string{"type": "dns", "value": name}
	}
	var order bareOrder
	header, err := y.post(ctx, y.resource.NewOrder, map[string]any{"identifiers": identifiers}, &order)
	if err != nil {
		return err
	}
	location := header.Get("Location")
	challenges, update := make([]string, len(names)), new(dns.Msg).SetUpdate(y.zone)
	var mu sync.Mutex
	err = y.each(len(order.Authorizations), func(i int) error {
		challenge, record, err := y.authorization(ctx, order.Authorizations[i])
		mu.Lock()
		defer mu.Unlock()
		challenges[i] = challenge
		update.Insert([]dns.RR{record})
		return err
	})
	if err != nil {
		return err
	}
	if err := y.update(ctx, update); err != nil {
		return err
	}
	if err := y.each(len(challenges), func(i int) error {
		_, err := y.post(ctx, challenges[i], struct{}{}, nil)
		return err
	}); err != nil {
		return err
	}
	if err := y.poll(ctx, location, "ready", &order); err != nil {
		return err
	}
	csr, err := request(names)
	if err != nil {
		return err
	}
	if _, err := y.post(ctx, order.Finalize, map[string]string{"csr": csr}, &order); err != nil {
		return err
	}
	if order.Status != "valid" {
		if err := y.poll(ctx, location, "valid", &order); err != nil {
			return err
		}
	}
	_, err = y.post(ctx, order.Certificate, nil, nil)
	return err
}

// begin reads the directory and fetches the nonces, all at once.
func (y *yardstick) begin(ctx context.Context) error {
	body, _, err := y.do(ctx, http.MethodGet, y.directory, nil)
	if err == nil {
		err = json.Unmarshal(body, &y.resource)
	}
	if err != nil {
		return err
	}
	for range y.lanes - 1 {
		go func() {
			if nonce, err := y.newNonce(ctx); err == nil {
				y.nonces <- nonce
			}
		}()
	}
	nonce, err := y.newNonce(ctx)
	y.nonces <- nonce
	return err
}

func (y *yardstick) newNonce(ctx context.Context) (string, error) {
	_, header, err := y.do(ctx, http.MethodHead, y.resource.NewNonce, nil)
	return header.Get("Replay-Nonce"), err
}

func (y *yardstick) authorization(ctx context.Context, url string) (challenge string, record dns.RR, err error) {
	var authorization struct {
		Identifier struct{ Value string }
		Challenges []struct{ Type, URL, Token string }
	}
	if _, err := y.post(ctx, url, nil, &authorization); err != nil {
		return "", nil, err
	}
	for _, c := range authorization.Challenges {
		if c.Type == "dns-01" {
			thumbprint := sha256.Sum256([]byte(y.jwk()))
			value := sha256.Sum256([]byte(c.Token + "." + base64url(thumbprint[:])))
			header := dns.RR_Header{Name: "_acme-challenge." + authorization.Identifier.Value + ".", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}
			return c.URL, &dns.TXT{Hdr: header, Txt: []string{base64url(value[:])}}, nil
		}
	}
	return "", nil, fmt.Errorf("no dns-01 at %s", url)
}

func (y *yardstick) update(ctx context.Context, message *dns.Msg) error {
	message.SetTsig(y.tsigName, dns.HmacSHA256, 300, time.Now().Unix())
	network := "udp"
	if message.Len() > 512 {
		network = "tcp"
	}
	client := dns.Client{Net: network, TsigSecret: map[string]string{y.tsigName: y.tsig}}
	answer, _, err := client.ExchangeContext(ctx, message, y.server)
	if err == nil && answer.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("the update is answered with %s", dns.RcodeToString[answer.Rcode])
	}
	return err
}

// poll looks until the order has a status.
func (y *yardstick) poll(ctx context.Context, url, status string, order *bareOrder) error {
	for {
		if _, err := y.post(ctx, url, nil, order); err != nil || order.Status == status {
			return err
		}
		if order.Status == "invalid" {
			return fmt.Errorf("the order is invalid")
		}
		time.Sleep(pollPause)
	}
}

// each runs f for 0…n-1, lanes at once.
func (y *yardstick) each(n int, f func(i int) error) error {
	errs, todo := make(chan error, n), make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	for range y.lanes {
		go func() {
			for i := range todo {
				errs <- f(i)
			}
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// post signs and sends (RFC 8555 section 6.2); a nil payload is POST-as-GET.
func (y *yardstick) post(ctx context.Context, url string, payload, answer any) (http.Header, error) {
	body := ""
	if payload != nil {
		text, err := json.Marshal(payload)
		if err != nil {
			return nil, err
		}
		body = base64url(text)
	}
	identity := `"kid":"` + y.kid + `"`
	if y.kid == "" {
		identity = `"jwk":` + y.jwk()
	}
	protected := base64url([]byte(fmt.Sprintf(`{"alg":"ES256",%s,"nonce":%q,"url":%q}`, identity, <-y.nonces, url)))
	digest := sha256.Sum256([]byte(protected + "." + body))
	r, s, err := ecdsa.Sign(rand.Reader, y.key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	text, header, err := y.do(ctx, http.MethodPost, url, []byte(fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, protected, body, base64url(signature))))
	y.nonces <- header.Get("Replay-Nonce")
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	return header, err
}

func (y *yardstick) do(ctx context.Context, method, url string, body []byte) ([]byte, http.Header, error) {
	y.requests.Add(1)
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/jose+json")
	}
	response, err := y.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %d %.200s", method, url, response.StatusCode, text)
	}
	return text, response.Header, err
}

// register makes the account that orders are placed with.
func (y *yardstick) register(ctx context.Context) (err error) {
	if y.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	if err := y.begin(ctx); err != nil {
		return err
	}
	header, err := y.post(ctx, y.resource.NewAccount, map[string]bool{"termsOfServiceAgreed": true}, nil)
	y.kid = header.Get("Location")
	return err
}

// jwk is the public key with its members in the order of RFC 7638, so that its digest is the thumbprint.
func (y *yardstick) jwk() string {
	point, err := y.key.PublicKey.Bytes()
	if err != nil {
		panic(err) // of a P-256 key: never
	}
	return fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, base64url(point[1:33]), base64url(point[33:]))
}

func request(names []string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	return base64url(csr), err
}

func base64url(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

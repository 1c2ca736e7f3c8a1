package acme_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/ari"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// cell is one fault at one endpoint: what is to come of it, and what has.
type cell struct {
	id       int
	endpoint ca.Endpoint
	fault    fault
	want     outcome

	issued *acme.Issued // to be revoked
	on     atomic.Bool
	faulty atomic.Int32 // answers that the fault gave
	placed atomic.Int32 // orders that the CA took
	sent   atomic.Int64 // bytes of endless answers
}

func (c *cell) String() string { return fmt.Sprintf("%s/%s", c.endpoint, c.fault.name) }

// exchange is a request at a fault, before the CA has seen it.
type exchange struct {
	http.ResponseWriter
	request *http.Request
	inner   http.Handler
	cell    *cell
}

// good lets the CA do what was asked, and keeps its answer.
func (x *exchange) good() *httptest.ResponseRecorder {
	good := httptest.NewRecorder()
	x.inner.ServeHTTP(good, x.request)
	if x.cell.endpoint == ca.NewOrder && good.Code == http.StatusCreated {
		x.cell.placed.Add(1)
	}
	return good
}

// write answers with a status, the headers of a good answer but for its length, and a body.
func (x *exchange) write(status int, header http.Header, body string) {
	for name, values := range header {
		if name != "Content-Length" && (name != "Retry-After" || status < http.StatusBadRequest) {
			x.Header()[name] = values
		}
	}
	x.WriteHeader(status)
	_, _ = x.Write([]byte(body))
}

// proxy stands between the clients and the CA. It knows the cells by their user agents.
func proxy(t *testing.T, cells []*cell, authority *ca.CA) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var id int
			if _, err := fmt.Sscanf(r.UserAgent(), "cell-%d ", &id); err != nil || id >= len(cells) {
				inner.ServeHTTP(w, r)
				return
			}
			c := cells[id]
			if (r.ProtoMajor == 1) != c.fault.raw {
				t.Errorf("%s: %s %s", c, r.Proto, r.URL)
			}
			endpoint := ca.EndpointOf(r.URL.Path)
			switch {
			case c.on.Load() && endpoint == c.endpoint:
				c.faulty.Add(1)
				if endpoint == ca.Order { // by then the CA has looked: the records are removed after a failure
					for authority.OrderStatus(r.URL.Path) == "pending" && r.Context().Err() == nil {
						time.Sleep(5 * time.Millisecond)
					}
				}
				c.fault.respond(&exchange{w, r, inner, c})
			case endpoint == ca.NewOrder:
				good := httptest.NewRecorder()
				inner.ServeHTTP(good, r)
				if good.Code == http.StatusCreated {
					c.placed.Add(1)
				}
				(&exchange{ResponseWriter: w}).write(good.Code, good.Header(), good.Body.String())
			default:
				inner.ServeHTTP(w, r)
			}
		})
	}
}

// TestFaults: whatever an endpoint does, it ends in bounded time in an error with a kind, a stage and a hint that says
// whether to try again; nothing crashes, no TXT record is left, and what is stored stays as it is. With the fault gone
// the next run succeeds, and takes up the order that was placed. All cells of a protocol run at once on one CA.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, raw := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP/2", true: "HTTP/1.1"}[raw], func(t *testing.T) {
			t.Parallel()
			cells := table(raw)
			w := newWorld(t, lab.Options{CA: ca.Options{HTTP1: raw}})
			w.CA.SetWrap(proxy(t, cells, w.CA))
			before := w.order(t, nil)
			var all sync.WaitGroup
			for _, slow := range []bool{true, false} {
				lanes := make(chan struct{}, 16)
				for _, c := range cells {
					if c.fault.slow == slow {
						all.Go(func() {
							lanes <- struct{}{}
							defer func() { <-lanes }()
							c.run(t, w, before)
						})
					}
				}
			}
			all.Wait()
			if left := w.World.Challenges(); len(left) != 0 {
				t.Errorf("TXT records are left: %v", left)
			}
			t.Logf("%d cases", len(cells))
		})
	}
}

// mostRequests is how many a fault may cost: a refused nonce is replaced twenty times.
const mostRequests = 20

// slowRequest is the time for one request in which a fault is slow.
const slowRequest = 8 * time.Second

// run has the operation fail, and then succeed.
func (c *cell) run(t *testing.T, w *world, before *acme.Issued) {
	s := w.setup
	s.Names, s.Settings.UserAgent = []string{fmt.Sprintf("cell%d.example.org", c.id)}, fmt.Sprintf("cell-%d", c.id)
	s.State = filepath.Join(w.State+".cells", fmt.Sprint(c.id))
	s.Settings.PreferredChain = c.fault.chain
	if err := os.MkdirAll(filepath.Dir(s.State), 0o700); err != nil {
		t.Error(err)
		return
	}
	store, err := state.Open(disk.Open(s.State))
	if err != nil {
		t.Errorf("%s: %v", c, err)
		return
	}
	if _, err := store.Lineage(s.Lineage).Add(before.Bundle, s.Names, s.Directory, before.Order, time.Now()); err != nil {
		t.Errorf("%s: %v", c, err)
		return
	}
	stored := files(t, filepath.Join(s.State, "lineages"))
	c.on.Store(true)
	faulty := s
	if c.fault.slow {
		faulty.RequestTime = slowRequest
	}
	err = c.operate(t, faulty, before)
	for tries := 1; c.fault.slow && c.faulty.Load() == 0 && tries < 5; tries++ { // on a busy machine others take as long
		err = c.operate(t, faulty, before)
	}
	c.on.Store(false)
	if c.faulty.Load() == 0 {
		t.Errorf("%s: the fault was not met", c)
	}
	c.check(t, err)
	if values := w.World.Challenges()["_acme-challenge."+s.Names[0]+"."]; len(values) != 0 {
		t.Errorf("%s: TXT records are left: %v", c, values)
	}
	if now := files(t, filepath.Join(s.State, "lineages")); !maps.Equal(stored, now) {
		t.Errorf("%s: the stored certificate has changed: %v", c, slices.Sorted(maps.Keys(now)))
	}
	if sent := c.sent.Load(); sent > 32<<20 {
		t.Errorf("%s: %d MiB were read", c, sent>>20)
	}
	if err := c.operate(t, s, before); err != nil {
		t.Errorf("%s, with the fault gone: %v", c, err)
	}
	if c.issued != nil {
		if _, revoked := w.CA.Revoked(c.issued.Bundle.Leaf().SerialNumber); !revoked {
			t.Errorf("%s: the certificate is not revoked", c)
		}
	}
	if n := int(c.faulty.Load()); n > cmp.Or(c.want.requests, mostRequests) {
		t.Errorf("%s: %d requests", c, n)
	}
	if n := int(c.placed.Load()); n != c.want.orders {
		t.Errorf("%s: %d orders were placed, want %d", c, n, c.want.orders)
	}
}

// operate does what meets the cell's endpoint.
func (c *cell) operate(t *testing.T, s setup, before *acme.Issued) error {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client, _, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()
	switch c.endpoint {
	case ca.RenewalInfo:
		_, err := client.RenewalInfo(ctx, before.Bundle.Leaf(), state.RenewalInfo{})
		return err
	case ca.KeyChange:
		if _, err := client.Registrar(nil, nil).Register(ctx, false); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		return client.Registrar(nil, nil).Rollover(ctx)
	case ca.RevokeCert:
		if c.issued == nil {
			if c.issued, err = s.issue(ctx, nil); err != nil {
				return fmt.Errorf("issue: %w", err)
			}
		}
		_, err := client.Revoke(ctx, acme.Revocation{Certificate: c.issued.Bundle.Leaf(), Reason: acme.Superseded})
		return err
	}
	if c.on.Load() && c.fault.endless { // the CA never gets ready
		var cut context.CancelFunc
		ctx, cut = context.WithTimeout(ctx, 5*time.Second)
		defer cut()
	}
	issued, err := s.issue(ctx, nil)
	if err == nil && issued.Bundle.Leaf().VerifyHostname(s.Names[0]) != nil {
		return errors.New("the certificate is for another name")
	}
	return err
}

// check compares an error with what is to be said.
func (c *cell) check(t *testing.T, err error) {
	if c.want.kind == "" {
		if err != nil {
			t.Errorf("%s: %v", c, err)
		}
		return
	}
	if c.want.kind == "none" {
		if !errors.Is(err, ari.ErrNone) {
			t.Errorf("%s: %v", c, err)
		}
		return
	}
	e, ok := errors.AsType[*acme.Error](err)
	if !ok {
		t.Errorf("%s: got %v", c, err)
		return
	}
	if e.Kind() != c.want.kind || e.Stage() != c.want.stage || e.Temporary() == c.want.permanent || !strings.Contains(e.Error(), c.want.says) {
		t.Errorf("%s: %v\nkind %s, stage %s, temporary %v; want %+v", c, e, e.Kind(), e.Stage(), e.Temporary(), c.want)
	}
	if wait := e.Wait(); wait > c.want.wait || wait < c.want.wait*9/10 {
		t.Errorf("%s: wait %s, want %s", c, wait, c.want.wait)
	}
	if e.Hint() == "" || len(e.Error()) > 1000 || strings.ContainsAny(e.Error(), "\n\r\x1b") || strings.Contains(e.Error(), "%!") {
		t.Errorf("%s: hint %q, message %q", c, e.Hint(), e.Error())
	}
}

// files are the contents of all files below a folder.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

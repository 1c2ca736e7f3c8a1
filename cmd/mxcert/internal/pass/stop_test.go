package pass

import (
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// hangAt keeps the requests of an endpoint waiting until the client has enough.
func hangAt(endpoint ca.Endpoint, reached func()) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != endpoint {
				next.ServeHTTP(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice that the client went away
			reached()
			<-r.Context().Done()
		})
	}
}

// A pass that ends before it has looked at files and servers has proven nothing, also if nothing had to be ordered.
func TestStopBeforeTheProof(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind    string
		context func(context.Context) (context.Context, context.CancelFunc)
	}{
		{"interrupted", context.WithCancel},
		{"timeout", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}},
	} {
		h := newHost(t, lab.Options{}, lab.ConfigOptions{})
		h.hook("deploy.d/note", note)
		h.pass(report.CodeOK, renew)
		h.ran()
		h.remember(func(r *state.Record) {
			for _, slot := range r.Keys { // it was issued, and the process died before it was deployed
				slot.Served = ""
				slot.Renewal.NextCheck = time.Time{}
			}
		})
		before := h.record()
		h.check(os.Remove(h.Path("tls", "mx.crt")))
		ctx, cancel := tt.context(t.Context())
		h.CA.SetWrap(hangAt(ca.RenewalInfo, sync.OnceFunc(func() {
			if tt.kind == "interrupted" {
				cancel()
			}
		})))
		c := h.run(ctx, renew)
		cancel()
		if c.Error == nil || c.Error.Kind != tt.kind || c.Code != report.CodeTemporary || c.Stage != report.Waiting || c.Changed {
			t.Errorf("%s: %+v, %+v", tt.kind, c, c.Error)
		}
		after := h.record()
		if !after.LastSuccess.Equal(before.LastSuccess) || after.Slot("ec256").Served != "" || slices.Contains(h.events()[len(before.Events):], "deployed") || len(h.ran()) > 0 {
			t.Errorf("%s: success is noted: %+v", tt.kind, after)
		}
		h.CA.SetWrap(nil)
		if c := h.pass(report.CodeOK, renew); !c.Changed || c.Stage != report.Served {
			t.Errorf("%s, then: %+v", tt.kind, c)
		}
	}
}

// A pass that is stopped in a hook before the order does not claim that the files are right.
func TestStopInAHook(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	h.hook("pre.d/hang", `touch "$lab/hangs"; exec sleep 100`)
	for _, remains := range []bool{true, false} {
		if !remains {
			h.check(os.Remove(h.Path("tls", "mx.crt")))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for h.t.Context().Err() == nil && os.Remove(h.Path("hangs")) != nil {
				time.Sleep(10 * time.Millisecond)
			}
			cancel()
		}()
		c := h.run(ctx, atOnce)
		want := report.Issued
		if remains {
			want = report.Deployed // a handshake was not made
		}
		if c.Code != report.CodeFailed || c.Error.Stage != "hook" || c.Stage != want {
			t.Errorf("the files are right: %v; stage %s, %+v", remains, c.Stage, c.Error)
		}
		if h.record().Failure != nil {
			t.Errorf("the stop is noted as a failure: %+v", h.record().Failure)
		}
	}
}

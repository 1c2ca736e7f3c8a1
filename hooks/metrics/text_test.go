package metrics_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mxcert/hooks/metrics"
)

// text returns what a source says.
func text(t *testing.T, s *metrics.Source) string {
	t.Helper()
	parts, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.Join(parts, nil))
}

// The page is that of the library, with its media type, and the library itself answers a client that chooses metrics.
func TestPageOfTheLibrary(t *testing.T) {
	t.Parallel()
	s := source()
	handler := server(t, s, nil).Handler()
	for _, query := range []string{"", "?name[]=mxcert_served_matches&name[]=mxcert_renewals_total", "?name[]=other"} {
		have, want := httptest.NewRecorder(), httptest.NewRecorder()
		handler.ServeHTTP(have, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics"+query, nil))
		promhttp.HandlerFor(s, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(want, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics"+query, nil))
		if have.Body.String() != want.Body.String() || form(t, have) != form(t, want) || have.Code != want.Code {
			t.Errorf("%q: %d %v\n%s\nthe library says %d %v\n%s", query, have.Code, have.Header(), have.Body, want.Code, want.Header(), want.Body)
		}
	}
}

// form returns the media type of an answer and its version.
func form(t *testing.T, answer *httptest.ResponseRecorder) string {
	t.Helper()
	media, parameters, err := mime.ParseMediaType(answer.Header().Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	return media + " " + parameters["version"]
}

// What is kept from the scrape before is never old: after any change the text is that of a source that starts with the same numbers.
func TestNothingOld(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	snapshot := many(5)
	s := counting(snapshot)
	for step := range 300 {
		before := text(t, s)
		snapshot = changed(random, snapshot)
		s.Set(snapshot)
		have := text(t, s)
		if want := text(t, counting(snapshot)); have != want {
			t.Fatalf("step %d: the text is\n%s\nand not\n%s", step, have, want)
		}
		if again := text(t, s); again != have || have == before {
			t.Fatalf("step %d: the text is\n%s\nbefore it was\n%s\nand afterwards\n%s", step, have, before, again)
		}
	}
	for _, count := range []func(){
		func() { s.Renewed("mx0001", metrics.Failure) },
		func() { s.Reloaded("exim4.service", metrics.Inactive) },
		func() { s.Notified("desk", metrics.Success) },
		func() { s.Count([]string{"mx0001"}, []string{"exim4.service"}, []string{"desk"}) },
	} {
		before := text(t, s)
		if count(); text(t, s) == before {
			t.Errorf("what was counted is not there:\n%s", before)
		}
	}
}

// changed returns a snapshot of which one number is another. It shares nothing that it changes.
func changed(random *rand.Rand, s metrics.Snapshot) metrics.Snapshot {
	s.Certificates = slices.Clone(s.Certificates)
	c := &s.Certificates[random.IntN(len(s.Certificates))]
	c.Keys, c.Endpoints, c.Owners, c.TLSA = slices.Clone(c.Keys), slices.Clone(c.Endpoints), slices.Clone(c.Owners), slices.Clone(c.TLSA)
	switch random.IntN(11) {
	case 0:
		c.LastSuccess = c.LastSuccess.Add(time.Hour)
	case 1:
		c.Took += time.Second
	case 2:
		c.Due = c.Due.Add(time.Hour)
	case 3:
		c.Unknown++
	case 4:
		c.Keys[0].NotAfter = c.Keys[0].NotAfter.Add(time.Hour)
	case 5:
		c.Endpoints[0].Matches = !c.Endpoints[0].Matches
	case 6:
		c.Endpoints[1].NotAfter = c.Endpoints[1].NotAfter.Add(time.Hour)
	case 7:
		c.Owners[0].Matches = !c.Owners[0].Matches
	case 8:
		c.TLSA[0].State = s.TLSAStates[(slices.Index(s.TLSAStates, c.TLSA[0].State)+1)%len(s.TLSAStates)]
	case 9:
		s.ConfigGood = !s.ConfigGood
	case 10:
		s.Release = fmt.Sprint(random.Uint64())
	}
	return s
}

// Many scrape while passes end.
func TestTogether(t *testing.T) {
	t.Parallel()
	s := counting(many(20))
	handler := server(t, s, nil).Handler()
	done := make(chan struct{})
	go func() {
		defer close(done)
		random, snapshot := rand.New(rand.NewPCG(3, 4)), many(20)
		for range 200 {
			snapshot = changed(random, snapshot)
			s.Set(snapshot)
			s.Renewed("mx0001", metrics.Success)
		}
	}()
	sizes := make(chan int)
	for range 4 {
		go func() {
			for range 20 {
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				sizes <- bytes.Count(answer.Body.Bytes(), []byte("mxcert_last_success_timestamp_seconds{"))
			}
		}()
	}
	for range 80 {
		if n := <-sizes; n != 20 {
			t.Errorf("a page has %d certificates", n)
		}
	}
	<-done
}

package ct_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/ct"
	"mxcert/acme/ct/cttest"
)

const month = 30 * 24 * time.Hour

// all reads all pages of a question.
func all(t *testing.T, s ct.Source, q ct.Question) (list []ct.Entry) {
	t.Helper()
	cursor := ""
	for range 20 {
		page, err := s.Since(t.Context(), q, cursor)
		if err != nil {
			t.Fatal(err)
		}
		if list, cursor = append(list, page.Entries...), page.Cursor; !page.More {
			return list
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

func namesOf(list []ct.Entry) string {
	var names []string
	for _, e := range list {
		names = append(names, strings.Join(e.Names, "+"))
	}
	return strings.Join(names, " ")
}

func TestSources(t *testing.T) {
	t.Parallel()
	ca, index := cttest.NewCA(t, "CA"), &cttest.Index{Token: "secret"}
	issue := func(names ...string) string {
		c, pre := ca.Issue(t, cttest.Template(t, time.Now().Add(month), names...), cttest.Key(t).Public())
		index.Add(pre, c)
		return bundle.SerialOf(c)
	}
	first := issue("mx.example.org")
	issue("www.example.org")
	issue("*.example.org")
	issue("mx.example.com", "mx.example.org")
	issue("a.b.example.org")
	issue("example.org")
	base := index.Serve(t)
	token := func() (string, error) { return "secret", nil }
	for _, s := range []ct.Source{ct.CertSpotter(base, "mxcert/1", token), ct.CrtSh(base, "mxcert/1")} {
		name, repeated := s.Name(), 1
		if s.Name() == "crtsh" {
			repeated = 2 // it has the pre-certificate and the certificate
		}
		list := all(t, s, ct.Question{Name: "mx.example.org"})
		if len(list) != 3*repeated || !slices.ContainsFunc(list, func(e ct.Entry) bool {
			return e.Serial == first && strings.Contains(e.Issuer, "CA") && strings.Contains(e.Link, "/?") && e.Source == name
		}) {
			t.Errorf("%s has %s for mx.example.org", name, namesOf(list))
		}
		if list := all(t, s, ct.Question{Name: "example.org", Below: true}); len(list) != 6*repeated {
			t.Errorf("%s has %s below example.org", name, namesOf(list))
		}
		for _, e := range list {
			full := e
			if c, ok := s.(ct.Completer); ok {
				var err error
				if full, err = c.Complete(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			if len(full.SPKI) != 64 || full.Serial != e.Serial || !full.NotAfter.Equal(e.NotAfter) {
				t.Errorf("%s: %+v", name, full)
			}
		}
	}
	for _, query := range index.Asked() {
		if values, err := url.ParseQuery(query); err != nil || strings.Contains(query, "secret") || values.Has("token") {
			t.Errorf("a query has the token: %s", query)
		}
	}
	_, err := ct.CertSpotter(base, "mxcert/1", func() (string, error) { return "other", nil }).Since(t.Context(), ct.Question{Name: "mx.example.org"}, "")
	if e, ok := errors.AsType[*ct.Error](err); !ok || !e.Token || strings.Contains(e.Error(), "other") {
		t.Errorf("a bad token: %v", err)
	}
	_, err = ct.CertSpotter(base, "mxcert/1", token).Since(t.Context(), ct.Question{Name: "internal"}, "")
	if e, ok := errors.AsType[*ct.Error](err); !ok || !e.Refused {
		t.Errorf("a name that is not public: %v", err)
	}
	index.Asked()
	_, err = ct.CertSpotter(base, "mxcert/1", func() (string, error) { return "", errors.New("secret cred:ct: not there") }).Since(t.Context(), ct.Question{Name: "mx.example.org"}, "")
	if err == nil || !strings.Contains(err.Error(), "cred:ct") || len(index.Asked()) > 0 {
		t.Errorf("without its token, Cert Spotter was asked: %v", err)
	}
}

// Whatever a service answers ends soon, in a bounded error that names it.
func TestHostileServices(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		how  http.HandlerFunc
		want string
	}{
		"HTML":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>maintenance</html>") }, "not the documented JSON"},
		"an object":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"a": []}`) }, "not the documented JSON"},
		"nothing":     {func(http.ResponseWriter, *http.Request) {}, "not the documented JSON"},
		"broken JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[{"id": "1"`) }, "not the documented JSON"},
		"wrong types": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[{"id": {}, "not_after": 7}]`) }, "not the documented JSON"},
		"500": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "down \x1b[31m", http.StatusInternalServerError)
		}, `answered 500 "down [31m"`},
		"502 of HTML": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<h1>bad</h1>", http.StatusBadGateway) }, "answered 502"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "answered 302"},
		"a cut answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "[")
		}, "broke off its answer"},
		"a flood": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `[{"id": "`)
			for range 34 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, "Cert Spotter gave|crt.sh gave"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `[{}`)
			for i := range 400_000 {
				if _, err := fmt.Fprintf(w, `,{"id":"%d"}`, i); err != nil {
					return
				}
			}
		}, "Cert Spotter gave an answer that is not|crt.sh gave an answer that is not"},
		"a hang up": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			index := &cttest.Index{}
			index.Fail(tt.how)
			base := index.Serve(t)
			for _, s := range []ct.Source{ct.CertSpotter(base, "mxcert/1", nil), ct.CrtSh(base, "mxcert/1")} {
				page, err := s.Since(t.Context(), ct.Question{Name: "mx.example.org"}, "")
				if e, ok := errors.AsType[*ct.Error](err); !ok || e.Refused || len(page.Entries) > 0 {
					t.Fatalf("%s: %v, %d entries", s.Name(), err, len(page.Entries))
				}
				matches := func(want string) bool { return strings.Contains(err.Error(), want) }
				if !slices.ContainsFunc(strings.Split(tt.want, "|"), matches) || len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x1b\n") {
					t.Errorf("%s: %v", s.Name(), err)
				}
			}
		})
	}
}

func TestBusyServices(t *testing.T) {
	t.Parallel()
	index := &cttest.Index{}
	index.Fail(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1800")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	before := time.Now()
	_, err := ct.CertSpotter(index.Serve(t), "mxcert/1", nil).Since(t.Context(), ct.Question{Name: "mx.example.org"}, "")
	if e, ok := errors.AsType[*ct.Error](err); !ok || e.RetryAt.Before(before.Add(30*time.Minute)) || e.RetryAt.After(time.Now().Add(30*time.Minute)) {
		t.Errorf("%+v", err)
	}
}

// A service that hangs is left when the configuration ends.
func TestHangingService(t *testing.T) {
	t.Parallel()
	index, there := &cttest.Index{}, make(chan struct{})
	index.Fail(func(_ http.ResponseWriter, r *http.Request) {
		close(there)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-there
		cancel()
	}()
	if _, err := ct.CertSpotter(index.Serve(t), "mxcert/1", nil).Since(ctx, ct.Question{Name: "mx.example.org"}, ""); err == nil {
		t.Error("no error")
	}
}

// A service that gives the same page for ever does not keep anybody.
func TestSamePage(t *testing.T) {
	t.Parallel()
	index := &cttest.Index{}
	index.Fail(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"id": "1", "dns_names": ["mx.example.org"]}]`)
	})
	s := ct.CertSpotter(index.Serve(t), "mxcert/1", nil)
	if _, err := s.Since(t.Context(), ct.Question{Name: "mx.example.org"}, "1"); err == nil || !strings.Contains(err.Error(), "same page") {
		t.Errorf("%v", err)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]string{
		"mx.example.org":                                                  "mx.example.org",
		"MX.example.org. mx.example.org":                                  "mx.example.org",
		"a.example.org b.example.org":                                     "a.example.org b.example.org",
		"a.example.org b.example.org c.example.org d.example.org":         ".example.org",
		"a.x.example.org b.x.example.org c.x.example.org d.x.example.org": ".x.example.org",
		"a.co.uk b.co.uk c.co.uk d.co.uk e.co.uk":                         "a.co.uk b.co.uk c.co.uk d.co.uk e.co.uk",
		"*.example.org":                                                   ".example.org",
		"*.example.org mx.example.org example.org":                        ".example.org",
		"*.example.org *.x.example.org mx.y.example.org":                  ".example.org",
		"*.x.example.org mx.example.org":                                  ".x.example.org mx.example.org",
		"localhost":                                                       "localhost",
		"":                                                                "",
	} {
		var got []string
		for _, q := range ct.Questions(strings.Fields(names)) {
			got = append(got, q.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: asked about %s, want %s", names, got, want)
		}
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	names := ct.Names{}
	names.Add("mx", []string{"mx.example.org", "mail.example.com"})
	names.Add("wild", []string{"*.example.net"})
	for entry, want := range map[string]string{
		"mx.example.org": "mx", "*.example.org": "mx", "www.example.org": "", "example.org": "", "*.org": "", "*.mx.example.org": "",
		"*.example.net": "wild", "www.example.net": "wild", "a.b.example.net": "", "example.net": "", "*.example.com www.example.net": "mx wild",
	} {
		if got := strings.Join(names.Owners(ct.Entry{Names: strings.Fields(entry)}), " "); got != want {
			t.Errorf("%s concerns %q, want %q", entry, got, want)
		}
	}
}

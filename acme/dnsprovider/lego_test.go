package dnsprovider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-acme/lego/v4/challenge"
	legolog "github.com/go-acme/lego/v4/log"

	"mxcert/acme/resolve"
)

// fake is a provider of lego's kind.
type fake struct {
	act    func(call string) error
	calls  []string
	active atomic.Int32
}

func (f *fake) do(op, domain, token, keyAuth string) error {
	if f.active.Add(1) != 1 {
		panic("two calls at once")
	}
	defer f.active.Add(-1)
	call := strings.Join([]string{op, domain, token, keyAuth}, " ")
	f.calls = append(f.calls, call)
	if f.act == nil {
		return nil
	}
	return f.act(call)
}

func (f *fake) Present(domain, token, keyAuth string) error {
	return f.do("present", domain, token, keyAuth)
}

func (f *fake) CleanUp(domain, token, keyAuth string) error {
	return f.do("cleanup", domain, token, keyAuth)
}

func newFake(t *testing.T, env map[string]string, act func(call string) error) (Solver, *fake) {
	t.Helper()
	f := &fake{act: act}
	s, err := newLego("fake", Description{}, func() (challenge.Provider, error) { return f, nil }, env, resolve.New([]string{"127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

func at(name string) TXT {
	return TXT{Place: resolve.Place{Name: name, Zone: "example.org."}, Domain: "mx.example.org", Token: "t", KeyAuth: "k"}
}

// TestLegoPlace: the place that was looked up once is where the record goes, where lego can be told.
func TestLegoPlace(t *testing.T) {
	s, f := newFake(t, nil, nil)
	records := []TXT{at("_acme-challenge.mx.example.org."), at("_acme-challenge.alias.example.net."), at("odd.example.net.")}
	if err := errors.Join(s.Present(t.Context(), records), s.CleanUp(t.Context(), records[:1])); err != nil {
		t.Fatal(err)
	}
	want := "present mx.example.org t k, present alias.example.net t k, present mx.example.org t k, cleanup mx.example.org t k"
	if got := strings.Join(f.calls, ", "); got != want {
		t.Errorf("calls: %s", got)
	}
}

func TestLegoFailures(t *testing.T) {
	env := map[string]string{"API_TOKEN": "s3cr3t+/value", "API_URL": "x", "TTL": "120", "KEY_PATH": "/etc/fake/key.pem"}
	for what, tt := range map[string]struct {
		act  func(string) error
		says string
	}{
		"an error": {func(string) error { return errors.New("duck: status 500:\n oops") }, "duck: status 500: oops"},
		"a crash":  {func(string) error { panic("nil map") }, "the provider crashed: nil map"},
		"a token in a URL": {func(string) error {
			return &url.Error{Op: "Get", URL: "https://api.example/update?token=" + url.QueryEscape(env["API_TOKEN"]), Err: errors.New("timeout")}
		}, "token=(API_TOKEN)"},
		"a token in the text": {func(string) error { return fmt.Errorf("bad token %s, TTL 120", env["API_TOKEN"]) }, "bad token (API_TOKEN), TTL 120"},
		"a path":              {func(string) error { return errors.New("open /etc/fake/key.pem: no such file or directory") }, "open /etc/fake/key.pem: no such file"},
		"a long page":         {func(string) error { return errors.New(strings.Repeat("é", 100_000)) }, "…"},
	} {
		s, f := newFake(t, env, tt.act)
		err := s.CleanUp(t.Context(), []TXT{at("_acme-challenge.a."), at("_acme-challenge.b.")})
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Error(), tt.says) || !e.Temporary() || e.Kind() != "dns-update" || !strings.Contains(e.Hint(), "mxcert providers fake") || len(e.Error()) > 600 {
			t.Errorf("%s: %v", what, err)
		} else if strings.Contains(e.Error(), "s3cr3t") {
			t.Errorf("%s: the token is in %v", what, e)
		}
		if len(f.calls) != 2 {
			t.Errorf("%s: the clean-up ended after %d records", what, len(f.calls))
		}
		if err := s.Present(t.Context(), []TXT{at("_acme-challenge.a."), at("_acme-challenge.b.")}); err == nil || len(f.calls) != 3 {
			t.Errorf("%s: present went on after a failure: %v", what, err)
		}
	}
}

// TestLegoLogs: what libraries log by themselves may have the secret, and goes nowhere.
func TestLegoLogs(t *testing.T) {
	newFake(t, nil, nil)
	lego, ok := legolog.Logger.(*log.Logger)
	if log.Writer() != io.Discard || !ok || lego.Writer() != io.Discard {
		t.Error("libraries write to standard error")
	}
}

// TestLegoHangs: lego's providers know no context. A call that is given up keeps the next one waiting, because they are
// not made for two at once.
func TestLegoHangs(t *testing.T) {
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, f := newFake(t, nil, func(call string) error {
		if strings.HasPrefix(call, "present") {
			cancel()
			<-release
		}
		return nil
	})
	for _, act := range []func(context.Context, []TXT) error{s.Present, s.CleanUp} {
		if err := act(ctx, []TXT{at("_acme-challenge.a.")}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	close(release)
	if err := s.CleanUp(t.Context(), []TXT{at("_acme-challenge.a.")}); err != nil || len(f.calls) != 2 {
		t.Errorf("%v, calls %q", err, f.calls)
	}
}

func TestLegoEnvironment(t *testing.T) {
	t.Setenv("FAKE_A", "of the process")
	var seen []string
	construct := func() (challenge.Provider, error) {
		seen = []string{os.Getenv("FAKE_A"), os.Getenv("FAKE_B"), os.Getenv("FAKE_B_FILE")}
		return nil, errors.New("bad value of FAKE_B: another secret")
	}
	_, err := newLego("fake", Description{}, construct, map[string]string{"FAKE_A": "of the provider", "FAKE_B": "another secret"}, resolve.New(nil))
	if fmt.Sprint(seen) != "[of the provider another secret ]" {
		t.Errorf("it saw %q", seen)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind() != "dns-config" || strings.Contains(e.Error(), "another secret") || !strings.Contains(e.Error(), "(FAKE_B)") {
		t.Errorf("got %v", err)
	}
	if _, has := os.LookupEnv("FAKE_B"); has || os.Getenv("FAKE_A") != "of the process" {
		t.Error("the environment was not put back")
	}
	if _, err := newLego("fake", Description{}, func() (challenge.Provider, error) { panic("x") }, map[string]string{"FAKE_C": "y"}, resolve.New(nil)); err == nil || !strings.Contains(err.Error(), "crashed") {
		t.Errorf("a crash at the set-up: %v", err)
	}
	if _, has := os.LookupEnv("FAKE_C"); has {
		t.Error("the environment was not put back after a crash")
	}
}

func TestFilesOfTheAWSClient(t *testing.T) {
	description, err := Describe("route53")
	if err != nil {
		t.Fatal(err)
	}
	env, err := readFiles("route53", description, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/a", "AWS_CONFIG_FILE": "/nonexistent/b", "AWS_REGION": "eu"})
	if err != nil || env["AWS_SHARED_CREDENTIALS_FILE"] != "/nonexistent/a" || env["AWS_CONFIG_FILE"] != "/nonexistent/b" || len(env) != 3 {
		t.Errorf("%v, %v", env, err)
	}
}

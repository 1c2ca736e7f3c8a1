package dnsprovider

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/challenge"

	"mxcert/acme/resolve"
)

// TestVariablesOfTheProcess that a provider would read are not there while it is set up, unless dns.env has them.
func TestVariablesOfTheProcess(t *testing.T) {
	for _, name := range []string{"CF_DNS_API_TOKEN", "CLOUDFLARE_DNS_API_TOKEN_FILE", "CLOUDFLARE_UNHEARD_OF", "CF_API_KEY", "CFOTHER", "HETZNER_API_TOKEN", "CLOUDFLARE_PROXY"} {
		t.Setenv(name, "of the process")
	}
	before := os.Environ()
	description, err := Describe("cloudflare")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	_, err = newLego("cloudflare", description, func() (challenge.Provider, error) {
		seen = os.Environ()
		return &fake{}, nil
	}, map[string]string{"CF_API_KEY": "of the provider"}, resolve.New(nil))
	if err != nil {
		t.Fatal(err)
	}
	for variable, want := range map[string]bool{
		"CF_DNS_API_TOKEN=of the process": false, "CLOUDFLARE_DNS_API_TOKEN_FILE=of the process": false, "CLOUDFLARE_UNHEARD_OF=of the process": false,
		"CF_API_KEY=of the process": false, "CF_API_KEY=of the provider": true,
		"CFOTHER=of the process": true, "HETZNER_API_TOKEN=of the process": true, "CLOUDFLARE_PROXY=of the process": true,
	} {
		if slices.Contains(seen, variable) != want {
			t.Errorf("%s is there: %t", variable, !want)
		}
	}
	after := os.Environ()
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("the environment is now %q", after)
	}
	if _, err := New("cloudflare", map[string]string{}, resolve.New(nil)); err == nil || !strings.Contains(err.Error(), "credentials information are missing") {
		t.Errorf("the real provider has taken a token of the process: %v", err)
	}
}

// TestChildOfTheMoment: a script that runs while another provider is being set up sees nothing of its variables.
func TestChildOfTheMoment(t *testing.T) {
	directory := t.TempDir()
	show := filepath.Join(directory, "show")
	if err := os.WriteFile(show, []byte("env >>"+directory+"/out\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var solvers []Solver
	for name, env := range map[string]map[string]string{
		"exec":         {"EXEC_PATH": show},
		"certbot-hook": {"CERTBOT_AUTH_HOOK": "/usr/bin/env >>" + directory + "/out"},
	} {
		s, err := New(name, env, resolve.New(nil))
		if err != nil {
			t.Fatal(err)
		}
		solvers = append(solvers, s)
	}
	_, err := newLego("fake", Description{}, func() (challenge.Provider, error) {
		var problems []error
		for _, s := range solvers {
			problems = append(problems, s.Present(t.Context(), []TXT{at("_acme-challenge.a.")}))
		}
		if os.Getenv("SECRET_OF_THE_MOMENT") == "" {
			t.Error("the provider itself does not see it")
		}
		return &fake{}, errors.Join(problems...)
	}, map[string]string{"SECRET_OF_THE_MOMENT": "x"}, resolve.New(nil))
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := os.ReadFile(directory + "/out"); err != nil || strings.Count(string(seen), "HOME=") != 2 || strings.Contains(string(seen), "SECRET_OF_THE_MOMENT") {
		t.Errorf("%v; the scripts saw %s", err, seen)
	}
}

// TestEachItsOwn: any number of providers are set up at once, each with its own value of the same variable, and code
// that reads the environment undisturbed sees none of them.
func TestEachItsOwn(t *testing.T) {
	t.Setenv("FAKE_TOKEN", "of the process")
	var wait sync.WaitGroup
	for i := range 8 {
		want := fmt.Sprint("token ", i)
		wait.Go(func() {
			for range 50 {
				_, err := newLego("fake", Description{}, func() (challenge.Provider, error) {
					time.Sleep(50 * time.Microsecond) // for the others
					if got := os.Getenv("FAKE_TOKEN"); got != want {
						return nil, fmt.Errorf("%s sees %s", want, got)
					}
					return &fake{}, nil
				}, map[string]string{"FAKE_TOKEN": want}, resolve.New(nil))
				if err != nil {
					t.Error(err)
				}
				Undisturbed(func() {
					if got := os.Getenv("FAKE_TOKEN"); got != "of the process" {
						t.Errorf("it sees %s", got)
					}
				})
			}
		})
	}
	wait.Wait()
}

// TestProxyOfAProvider: net/http reads the proxy once in the life of a process, which must not be in the moment when one
// is in dns.env. A process of its own is needed to see that.
func TestProxyOfAProvider(t *testing.T) {
	if os.Getenv("MXCERT_TEST_CHILD") == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestProxyOfAProvider$")
		child.Env = append(os.Environ(), "MXCERT_TEST_CHILD=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	_, err := newLego("fake", Description{}, func() (challenge.Provider, error) {
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: "api.example.net"}})
		if proxy != nil && strings.Contains(proxy.Host, "of.the.provider") {
			t.Error("the process has the proxy of a provider for ever")
		}
		return &fake{}, err
	}, map[string]string{"HTTPS_PROXY": "http://of.the.provider.example:3128"}, resolve.New(nil))
	if err != nil {
		t.Fatal(err)
	}
}

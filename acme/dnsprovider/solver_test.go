package dnsprovider_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

func TestUnknownProvider(t *testing.T) {
	for name, similar := range map[string]string{"cloudfare": "cloudflare", "route-53": "route53", "rfc-2136": "rfc2136", "hetznr": "hetzner", "dns": "", "": "", "x": "", "53": ""} {
		_, err := dnsprovider.New(name, nil, resolve.New(nil))
		e, ok := errors.AsType[*dnsprovider.Error](err)
		if known := errors.Is(dnsprovider.Known(name), err); !ok || known || e.Kind() != "dns-config" || e.Stage() != "dns" || e.Error() != fmt.Sprintf("there is no DNS provider %q", name) {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if (similar != "" && !strings.Contains(e.Hint(), `"`+similar+`"`)) || !strings.Contains(e.Hint(), "mxcert providers") || !strings.Contains(e.Error(), `"`+name+`"`) {
			t.Errorf("%q: %v, %s", name, e, e.Hint())
		}
		if _, err := dnsprovider.Describe(name); err == nil {
			t.Errorf("%q is described", name)
		}
	}
}

// TestProviders: each is described, and none crashes without its settings.
func TestProviders(t *testing.T) {
	names := dnsprovider.Names()
	if !slices.IsSorted(names) || !slices.Contains(names, "rfc2136") || !slices.Contains(names, "exec") || len(names) < 20 {
		t.Errorf("names: %q", names)
	}
	for _, name := range append(names, "dnsupdate") {
		if err := dnsprovider.Known(name); err != nil {
			t.Error(err)
		}
		d, err := dnsprovider.Describe(name)
		if err != nil || d.Name == "" || len(d.Variables) == 0 {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		if _, err := dnsprovider.New(name, map[string]string{}, resolve.New([]string{"127.0.0.1:1"})); err != nil {
			e, ok := errors.AsType[*dnsprovider.Error](err)
			if !ok || e.Kind() != "dns-config" || strings.Contains(e.Error(), "crashed") || e.Hint() == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestPrivateEnvironment: a provider's variables are seen by it alone.
func TestPrivateEnvironment(t *testing.T) {
	t.Setenv("CF_DNS_API_TOKEN", "of the process")
	before := os.Environ()
	if _, err := dnsprovider.New("hetzner", map[string]string{"HETZNER_API_TOKEN": "x"}, resolve.New([]string{"127.0.0.1:1"})); err != nil {
		t.Fatal(err)
	}
	if _, err := dnsprovider.New("cloudflare", map[string]string{"CF_DNS_API_TOKEN": "x"}, resolve.New([]string{"127.0.0.1:1"})); err != nil {
		t.Fatal(err)
	}
	if after := os.Environ(); !slices.Equal(before, after) {
		t.Errorf("the environment is now %q", after)
	}
	if _, err := dnsprovider.New("hetzner", nil, resolve.New([]string{"127.0.0.1:1"})); err == nil || !strings.Contains(err.Error(), "HETZNER_API_TOKEN") {
		t.Errorf("the second sees the variable of the first: %v", err)
	}
}

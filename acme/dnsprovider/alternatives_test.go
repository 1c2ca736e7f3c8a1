package dnsprovider

import (
	"slices"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

// Each variable is one that the provider knows, and a provider with all variables of an alternative can be set up.
func TestAlternatives(t *testing.T) {
	values := map[string]string{"OVH_ENDPOINT": "ovh-eu", "DNSUPDATE_TSIG_KEY": "mxcert.", "DNSUPDATE_TSIG_SECRET": "c2VjcmV0", "AWS_REGION": "eu-central-1",
		"ACME_DNS_API_BASE": "https://127.0.0.1:1", "ACME_DNS_STORAGE_BASE_URL": "https://127.0.0.1:1", "HTTPREQ_ENDPOINT": "https://127.0.0.1:1", "SCW_SECRET_KEY": "11111111-1111-1111-1111-111111111111"}
	values["ACME_DNS_STORAGE_PATH"] = t.TempDir() + "/accounts.json"
	for name, list := range several() {
		description, err := Describe(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range list {
			env := map[string]string{}
			for _, v := range append(slices.Clone(a.Variables), a.Optional...) {
				if !description.knows(v) {
					t.Errorf("%s has no variable %s", name, v)
				}
			}
			for _, v := range a.Variables {
				if env[v] = values[v]; env[v] == "" {
					env[v] = strings.Repeat("a", 40)
				}
			}
			if a.Meaning == "" && len(list) > 1 {
				t.Errorf("%s, alternative %d has no meaning", name, i)
			}
			if slices.Contains(a.Variables, "DNSUPDATE_TSIG_FILE") || slices.Contains(a.Variables, "AWS_PROFILE") {
				continue // they name files that have to exist
			}
			if _, err := New(name, env, resolve.New([]string{"127.0.0.1:1"})); err != nil {
				t.Errorf("%s with %v: %v", name, a.Variables, err)
			}
			if got, ok := Complete(name, env); len(a.Variables) > 0 && (!ok || len(got.Variables) > len(a.Variables)) {
				t.Errorf("%s with %v is %v, %v", name, a.Variables, got, ok)
			}
		}
	}
}

func TestAlternativesOfAll(t *testing.T) {
	for _, name := range Names() {
		list, known := Alternatives(name)
		if len(list) == 0 || known != (len(list[0].Variables) > 0) {
			t.Errorf("%s: %v, %v", name, list, known)
		}
	}
	if _, known := Alternatives("nosuch"); known {
		t.Error("a provider that does not exist is known")
	}
	for _, env := range []map[string]string{{"CLOUDFLARE_DNS_API_TOKEN": "x"}, {"CF_DNS_API_TOKEN_FILE": "/x"}, {"CLOUDFLARE_EMAIL": "x", "CLOUDFLARE_API_KEY": "y"}} {
		if _, ok := Complete("cloudflare", env); !ok {
			t.Errorf("%v is not enough", env)
		}
	}
	if _, ok := Complete("cloudflare", map[string]string{"CF_API_EMAIL": "x"}); ok {
		t.Error("a mail address is enough")
	}
}

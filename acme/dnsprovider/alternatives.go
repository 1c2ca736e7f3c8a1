package dnsprovider

import "strings"

// Alternative is one way to give a provider what it needs.
type Alternative struct {
	Meaning   string   // in words, for a choice
	Variables []string // all of them are needed
	Optional  []string // a question about them is useful, too
}

// Alternatives lists the ways to configure a provider, the recommended one first. There is one for most. lego's descriptions do not say which
// variables belong together; for providers of which mxcert does not know it either, known is false.
func Alternatives(name string) (list []Alternative, known bool) {
	name = canonical(name)
	if list := several()[name]; list != nil {
		return list, true
	}
	description, err := Describe(name)
	if err != nil {
		return nil, false
	}
	var one Alternative
	for _, v := range description.Variables {
		if v.Required {
			one.Variables = append(one.Variables, v.Name)
		}
	}
	return []Alternative{one}, len(one.Variables) > 0
}

// several lists the providers that have a choice, or of which lego's description does not say what is required (lego's documentation of each).
func several() map[string][]Alternative {
	return map[string][]Alternative{
		"rfc2136": {
			{Meaning: "name and secret of a TSIG key", Variables: []string{"DNSUPDATE_TSIG_KEY", "DNSUPDATE_TSIG_SECRET"}, Optional: []string{"DNSUPDATE_NAMESERVER"}},
			{Meaning: "a key file of tsig-keygen", Variables: []string{"DNSUPDATE_TSIG_FILE"}, Optional: []string{"DNSUPDATE_NAMESERVER"}},
		},
		"acme-dns": {
			{Meaning: "accounts in a file", Variables: []string{"ACME_DNS_API_BASE", "ACME_DNS_STORAGE_PATH"}},
			{Meaning: "accounts on a storage server", Variables: []string{"ACME_DNS_API_BASE", "ACME_DNS_STORAGE_BASE_URL"}},
		},
		"cloudflare": {
			{Meaning: "an API token with the rights Zone.DNS:Edit and Zone.Zone:Read", Variables: []string{"CF_DNS_API_TOKEN"}},
			{Meaning: "two API tokens, one for each of these rights", Variables: []string{"CF_DNS_API_TOKEN", "CF_ZONE_API_TOKEN"}},
			{Meaning: "the account's mail address and its global API key", Variables: []string{"CF_API_EMAIL", "CF_API_KEY"}},
		},
		"dnsimple": {{Meaning: "an OAuth token", Variables: []string{"DNSIMPLE_OAUTH_TOKEN"}}},
		"gandiv5": {
			{Meaning: "a personal access token", Variables: []string{"GANDIV5_PERSONAL_ACCESS_TOKEN"}},
			{Meaning: "an API key (old)", Variables: []string{"GANDIV5_API_KEY"}},
		},
		"hetzner": {
			{Meaning: "an API token of the Hetzner Console (cloud)", Variables: []string{"HETZNER_API_TOKEN"}},
			{Meaning: "an API key of the old DNS console", Variables: []string{"HETZNER_API_KEY"}},
		},
		"httpreq": {{Meaning: "the URL of your service", Variables: []string{"HTTPREQ_ENDPOINT"}, Optional: []string{"HTTPREQ_USERNAME", "HTTPREQ_PASSWORD"}}},
		"joker": {
			{Meaning: "an API key (DMAPI)", Variables: []string{"JOKER_API_KEY"}},
			{Meaning: "user and password (DMAPI)", Variables: []string{"JOKER_USERNAME", "JOKER_PASSWORD"}},
		},
		"ovh": {
			{Meaning: "application key, application secret and consumer key", Variables: []string{"OVH_ENDPOINT", "OVH_APPLICATION_KEY", "OVH_APPLICATION_SECRET", "OVH_CONSUMER_KEY"}},
			{Meaning: "OAuth2: client ID and client secret", Variables: []string{"OVH_ENDPOINT", "OVH_CLIENT_ID", "OVH_CLIENT_SECRET"}},
			{Meaning: "an access token", Variables: []string{"OVH_ENDPOINT", "OVH_ACCESS_TOKEN"}},
		},
		"route53": {
			{Meaning: "an access key", Variables: []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}},
			{Meaning: "a profile in a credentials file", Variables: []string{"AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"}},
			{Meaning: "the role of this instance (EC2), no secret", Optional: []string{"AWS_REGION"}},
		},
		"scaleway": {{Meaning: "a secret key", Variables: []string{"SCW_SECRET_KEY"}, Optional: []string{"SCW_PROJECT_ID"}}},
	}
}

// Complete returns the first alternative whose variables are all set, by themselves or by a NAME_FILE.
func Complete(provider string, env map[string]string) (Alternative, bool) {
	list, _ := Alternatives(provider)
	for _, a := range list {
		if len(a.Variables) == 0 {
			continue
		}
		missing := false
		for _, v := range a.Variables {
			missing = missing || !Set(env, v)
		}
		if !missing {
			return a, true
		}
	}
	return Alternative{}, false
}

// Set reports whether a variable is set: under its name, its older name, or as a file.
func Set(env map[string]string, variable string) bool {
	for _, name := range []string{variable, strings.Replace(variable, "DNSUPDATE_", "RFC2136_", 1), strings.Replace(variable, "CF_", "CLOUDFLARE_", 1), strings.Replace(variable, "CF_API_EMAIL", "CLOUDFLARE_EMAIL", 1)} {
		if env[name] != "" || env[name+"_FILE"] != "" {
			return true
		}
	}
	return false
}

package dnsprovider

import (
	"encoding/json"
	"strings"
)

// Description is what an operator needs to know about a provider.
type Description struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Documentation is the page that says more about the variables; "" if there is none.
	Documentation string `json:"documentation"`
	// Sequential: names are proven one after another, see [Sequencer]. For some providers this depends on their settings.
	Sequential bool `json:"sequential"`
	// Forgetful: only the process that created a record can remove it, see [Forgotten].
	Forgetful bool       `json:"forgetful"`
	Variables []Variable `json:"variables"`

	other []string // variables that the code reads and lego's description does not mention
}

// Variable is one setting of a provider, for dns.env.
type Variable struct {
	Name       string `json:"name"`
	File       string `json:"file"` // the variable that names a file with the value instead; "" if there is none
	Meaning    string `json:"meaning"`
	Required   bool   `json:"required"`   // the provider does not work without it; false if that is not known
	Credential bool   `json:"credential"` // it identifies mxcert; often there are alternatives. See [Secret]
}

// Describe returns the description of a provider. The error is an *Error if there is no provider of that name.
func Describe(name string) (Description, error) {
	if err := Known(name); err != nil {
		return Description{}, err
	}
	name = canonical(name)
	if d, ok := own()[name]; ok {
		return d, nil
	}
	return describeLego(name)
}

// describeLego reads what the generator found in lego's source.
func describeLego(name string) (Description, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(legoDescriptions, &all); err != nil || all[name] == nil {
		return Description{}, err
	}
	var d struct {
		Description
		Other []string `json:"other"`
	}
	err := json.Unmarshal(all[name], &d)
	d.other, d.Documentation = d.Other, "https://go-acme.github.io/lego/dns/"+name+"/"
	for i, v := range d.Variables {
		if !d.takesPath(v.Name) {
			d.Variables[i].File = v.Name + "_FILE"
		}
	}
	return d.Description, err
}

// knows reports whether the provider reads a variable of that name, itself or through a NAME_FILE.
func (d Description) knows(name string) bool {
	short := strings.TrimSuffix(name, "_FILE")
	for known := range d.names() {
		if known == name || known == short {
			return true
		}
	}
	return false
}

// takesPath reports whether the provider itself reads a variable that ends in _FILE, so that mxcert must not replace it by the
// content of the file.
func (d Description) takesPath(name string) bool {
	short, found := strings.CutSuffix(name, "_FILE")
	if !found {
		return false
	}
	path := false
	for known := range d.names() {
		if known == short {
			return false
		}
		path = path || known == name
	}
	return path || name == "AWS_CONFIG_FILE" || name == "AWS_WEB_IDENTITY_TOKEN_FILE" || name == "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
}

func (d Description) names() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range d.Variables {
			if !yield(v.Name) {
				return
			}
		}
		for _, name := range d.other {
			if !yield(name) {
				return
			}
		}
	}
}

// own describes the providers that are not lego's.
func own() map[string]Description {
	return map[string]Description{
		"rfc2136": {Name: "Dynamic DNS updates (RFC 2136)", URL: "https://www.rfc-editor.org/rfc/rfc2136.html", Variables: []Variable{
			{Name: "DNSUPDATE_TSIG_KEY", File: "DNSUPDATE_TSIG_KEY_FILE", Required: true, Credential: true, Meaning: "Name of the TSIG key"},
			{Name: "DNSUPDATE_TSIG_SECRET", File: "DNSUPDATE_TSIG_SECRET_FILE", Required: true, Credential: true, Meaning: "Its secret, base64"},
			{Name: "DNSUPDATE_TSIG_ALGORITHM", File: "DNSUPDATE_TSIG_ALGORITHM_FILE", Credential: true, Meaning: "hmac-sha256. (default), hmac-sha224., hmac-sha384. or hmac-sha512."},
			{Name: "DNSUPDATE_TSIG_FILE", Credential: true, Meaning: "Path of a key file as tsig-keygen writes it, instead of the three above (which are then not needed)"},
			{Name: "DNSUPDATE_NAMESERVER", File: "DNSUPDATE_NAMESERVER_FILE", Meaning: `The server that takes updates, "host" or "host:port" (default: the primary that the zone's SOA names)`},
			{Name: "DNSUPDATE_TTL", File: "DNSUPDATE_TTL_FILE", Meaning: "TTL of the TXT records in seconds (default 60)"},
			{Name: "DNSUPDATE_DNS_TIMEOUT", File: "DNSUPDATE_DNS_TIMEOUT_FILE", Meaning: "How long to wait for the server's answer in seconds (default 10)"},
		}},
		"exec": {Name: "A program of your own, by the protocol of lego's exec", Documentation: "https://go-acme.github.io/lego/dns/exec/", Variables: []Variable{
			{Name: "EXEC_PATH", Required: true, Meaning: "The program to run: PROGRAM present|cleanup FQDN VALUE"},
			{Name: "EXEC_MODE", Meaning: "RAW passes domain, token and key authorization to the program instead"},
		}},
		"certbot-hook": {Name: "Scripts written for certbot's --manual-auth-hook and --manual-cleanup-hook", Documentation: "https://eff-certbot.readthedocs.io/en/stable/using.html#pre-and-post-validation-hooks", Variables: []Variable{
			{Name: "CERTBOT_AUTH_HOOK", Required: true, Meaning: "The command that creates a record, with absolute paths; it sees CERTBOT_DOMAIN, CERTBOT_VALIDATION, CERTBOT_REMAINING_CHALLENGES, CERTBOT_ALL_DOMAINS and all of dns.env"},
			{Name: "CERTBOT_CLEANUP_HOOK", Meaning: "The command that removes it; it also sees CERTBOT_AUTH_OUTPUT. Without this command the records stay, and mxcert warns about each until it is gone"},
			{Name: "CERTBOT_HOOK_TIMEOUT", Meaning: "How long a command may take, in seconds (default 600)"},
		}},
	}
}

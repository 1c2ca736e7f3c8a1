//go:build ignore

// variables_gen makes variables.json from the descriptions that lego keeps beside its providers.
package main

import (
	"encoding/json"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mxcert/acme/dnsprovider"
)

// line is NAME = "text" or NAME = 'text' in the parts of lego's files that are read here.
var line = regexp.MustCompile(`^\s*([A-Z][A-Z0-9_]+|Name|Code|URL) = ["']{1,3}(.*?)["']{1,3}\s*$`)

func main() {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-acme/lego/v4").Output()
	check(err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "providers/dns/*/*.toml"))
	check(err)
	all := map[string]dnsprovider.Description{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		code, d := read(string(text))
		all[code] = d
	}
	kept := map[string]dnsprovider.Description{}
	for _, name := range dnsprovider.Names() {
		if d, ok := all[name]; ok {
			kept[name] = d
		}
	}
	if len(kept) != len(dnsprovider.Names()) {
		log.Fatalf("no description for some of %v; have %v", dnsprovider.Names(), slices.Sorted(maps.Keys(kept)))
	}
	kept["rfc2136"] = own(kept["rfc2136"])
	text, err := json.MarshalIndent(kept, "", " ")
	check(err)
	check(os.WriteFile("variables.json", append(text, '\n'), 0o644))
}

func read(text string) (code string, d dnsprovider.Description) {
	section := ""
	for _, l := range strings.Split(text, "\n") {
		if s := strings.TrimSpace(l); strings.HasPrefix(s, "[") {
			section = s
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		value := strings.ReplaceAll(m[2], `\"`, `"`)
		v := dnsprovider.Variable{Name: m[1], Meaning: value, Required: section == "[Configuration.Credentials]"}
		switch {
		case m[1] == "Code" && section == "":
			code = value
		case m[1] == "Name" && section == "":
			d.Name = value
		case m[1] == "URL" && section == "":
			d.URL = value
		case strings.HasPrefix(section, "[Configuration."):
			d.Variables = append(d.Variables, v)
		}
	}
	if code == "exec" {
		d.Variables = []dnsprovider.Variable{
			{Name: "EXEC_PATH", Meaning: "The program to run: PROGRAM present|cleanup FQDN VALUE", Required: true},
			{Name: "EXEC_MODE", Meaning: "RAW gives the program domain, token and key authorization instead"},
		}
	}
	// Waiting is mxcert's own business: dns.propagation.
	d.Variables = slices.DeleteFunc(d.Variables, func(v dnsprovider.Variable) bool {
		return strings.HasSuffix(v.Name, "_POLLING_INTERVAL") || strings.HasSuffix(v.Name, "_PROPAGATION_TIMEOUT") || strings.HasSuffix(v.Name, "_SEQUENCE_INTERVAL")
	})
	return code, d
}

// own keeps the variables that mxcert's own provider knows.
func own(d dnsprovider.Description) dnsprovider.Description {
	return dnsprovider.Description{Name: "Dynamic DNS updates (RFC 2136)", URL: d.URL, Variables: []dnsprovider.Variable{
		{Name: "DNSUPDATE_TSIG_KEY", Meaning: "Name of the TSIG key", Required: true},
		{Name: "DNSUPDATE_TSIG_SECRET", Meaning: "Its secret, base64", Required: true},
		{Name: "DNSUPDATE_TSIG_ALGORITHM", Meaning: "hmac-sha256. (default), hmac-sha224., hmac-sha384. or hmac-sha512."},
		{Name: "DNSUPDATE_TSIG_FILE", Meaning: "Path of a key file as tsig-keygen writes it, instead of the three above"},
		{Name: "DNSUPDATE_NAMESERVER", Meaning: `The server that takes updates, "host" or "host:port" (default: the primary that the zone's SOA names)`},
		{Name: "DNSUPDATE_TTL", Meaning: "TTL of the TXT records in seconds (default 60)"},
		{Name: "DNSUPDATE_DNS_TIMEOUT", Meaning: "How long to wait for the server's answer in seconds (default 10)"},
	}}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

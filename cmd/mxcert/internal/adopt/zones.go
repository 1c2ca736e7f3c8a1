package adopt

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"mxcert/acme/finding"
)

// Proof is how another client proved one name.
type Proof struct {
	// Name is the name, without "*.", or the one to which the client moved its challenge.
	Name   string
	Plugin string // its own name of a DNS plugin; "" if it was none
}

// acmeShProofs reads which plugin acme.sh used for which name: Le_Webroot and Le_ChallengeAlias are lists in the order of the names, which are
// Le_Domain and then those of Le_Alt. A missing or empty place means the same as the one before it.
func acmeShProofs(settings map[string]string) []Proof {
	names := []string{settings["Le_Domain"]}
	if alt := settings["Le_Alt"]; alt != "" && alt != "no" {
		names = append(names, strings.Split(alt, ",")...)
	}
	ways, aliases := strings.Split(settings["Le_Webroot"], ","), strings.Split(settings["Le_ChallengeAlias"], ",")
	var proofs []Proof
	for i, name := range names {
		plugin, _ := strings.CutPrefix(atPosition(ways, i), "dns_")
		if plugin == atPosition(ways, i) {
			plugin = ""
		}
		if alias := strings.TrimPrefix(atPosition(aliases, i), "="); alias != "" && alias != "no" {
			name = alias
		}
		proofs = append(proofs, Proof{Name: strings.ToLower(strings.TrimPrefix(name, "*.")), Plugin: plugin})
	}
	return proofs
}

// atPosition returns the i-th element, or else the last one before it that is not empty, as acme.sh does.
func atPosition(list []string, i int) string {
	for i = min(i, len(list)-1); i >= 0; i-- {
		if list[i] != "" {
			return list[i]
		}
	}
	return ""
}

// zoneLines proposes dns.zones for names that the other client proved by several plugins; "" if not every name's provider is known. A
// registered domain stands for its names if all of them have the same provider.
func zoneLines(f Foreign, known func(provider string) bool) string {
	providers := map[string]string{} // by name, and by registered domain; "" if they differ
	domains := map[string]string{}
	for _, p := range f.Proofs {
		name := provider(p.Plugin)
		if p.Plugin == "" || name == "" || !known(name) || strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return ""
		}
		domain, err := publicsuffix.EffectiveTLDPlusOne(p.Name)
		if err != nil {
			domain = p.Name
		}
		domains[p.Name], providers[p.Name] = domain, name
		if other, seen := providers["/"+domain]; seen && other != name {
			name = ""
		}
		providers["/"+domain] = name
	}
	var y strings.Builder
	fmt.Fprintf(&y, "    # dns:   # %s used a DNS plugin for each zone; `mxcert providers NAME` lists the variables for env\n    #   zones:\n", f.Client)
	var written []string
	for _, p := range f.Proofs {
		zone := p.Name
		if providers["/"+domains[p.Name]] != "" {
			zone = domains[p.Name]
		}
		if !slices.Contains(written, zone) {
			written = append(written, zone)
			fmt.Fprintf(&y, "    #     %q: {provider: %s, env: {}}   # its DNS plugin %s\n", zone, providers[p.Name], finding.Quote(p.Plugin, finding.MostQuoted))
		}
	}
	return y.String()
}

package adopt

import (
	"fmt"
	"path/filepath"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
)

// proposal returns a section for conf.d. keys are the key types to keep.
func (t *taking) proposal(name string, f Foreign, domains []string, keys []bundle.KeyType) string {
	var y strings.Builder
	// The name is in quotes because YAML takes 2025 for a number.
	fmt.Fprintf(&y, "certificates:\n  - name: %q\n    domains: [%s]\n    keys: [%s]\n", name, strings.Join(quoted(domains), ", "), strings.Join(text(keys), ", "))
	y.WriteString(dnsLines(f, t.Knows))
	y.WriteString(t.deployLines(f.Installed))
	y.WriteString("    verify: {endpoints: []}\n")
	return y.String()
}

// deployLines proposes the paths at which the other client installed the certificate. If Exim reads them, the target is for Exim.
func (t *taking) deployLines(at Installed) string {
	if !usable(at.Fullchain) || !usable(at.Key) {
		return "    deploy: []   # say where it goes, as in `mxcert config example`\n"
	}
	kind, unit := "files", at.Unit
	if samePath(at.Fullchain, t.Exim.Fullchain) && samePath(at.Key, t.Exim.Key) {
		kind, unit = "exim", ""
	}
	text := fmt.Sprintf("      - %s: {certificate: %q, private_key: %q", kind, at.Fullchain, at.Key)
	if unit != "" {
		text += fmt.Sprintf(", unit: %q", unit)
	}
	return "    deploy:   # where the other client installed it\n" + text + "}\n"
}

// usable reports whether a path of the other client can stand in the configuration as it is.
func usable(path string) bool {
	return filepath.IsAbs(path) && !strings.ContainsAny(path, "{}") && finding.Quote(path, len(path)) == path
}

func quoted(names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = fmt.Sprintf("%q", n)
	}
	return list
}

func text(keys []bundle.KeyType) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = string(k)
	}
	return list
}

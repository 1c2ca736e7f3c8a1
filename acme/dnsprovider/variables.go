package dnsprovider

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// CheckVariables finds names that a provider of mxcert's own does not know. It accepts every name for a provider of
// lego's, because their libraries read more variables than lego lists; see [Misspelt]. The error is an *Error.
func CheckVariables(provider string, names []string) error {
	switch canonical(provider) {
	case "rfc2136":
		for _, name := range names {
			if !isVariable(strings.TrimSuffix(name, "_FILE")) && !isVariable(name) {
				return setupError(name, "this provider has no such variable", "`mxcert providers rfc2136` lists them")
			}
		}
	case "certbot-hook":
		return checkHookVariables(names)
	}
	return nil
}

// Misspelt finds names of variables that a provider of lego's does not have and that differ in one or two letters from
// one that it has. It returns the right name by the wrong one. It may be mistaken: use it for warnings only.
func Misspelt(provider string, names []string) map[string]string {
	name := canonical(provider)
	if _, ours := own()[name]; ours {
		return nil
	}
	description, err := Describe(name)
	if err != nil {
		return nil
	}
	return description.misspelt(slices.Values(names))
}

func (d Description) misspelt(names iter.Seq[string]) map[string]string {
	out := map[string]string{}
	for name := range names {
		if d.knows(name) {
			continue
		}
		best := 3
		for _, v := range d.Variables { // not the others: a hint should lead to documented variables only
			for _, candidate := range []string{v.Name, v.File} {
				if n := finding.Distance(name, candidate); n < best && candidate != "" {
					best, out[name] = n, candidate
				}
			}
		}
	}
	return out
}

// sortedAssignments returns the variables as os/exec expects them.
func sortedAssignments(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

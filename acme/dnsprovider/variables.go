package dnsprovider

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// CheckVariables finds names that a provider of our own does not know. Those of lego's are not refused, because their
// libraries read more variables than anybody has listed; see [Misspelt]. The error is an *Error.
func CheckVariables(provider string, names []string) error {
	switch canonical(provider) {
	case "rfc2136":
		for _, name := range names {
			if !isVariable(strings.TrimSuffix(name, "_FILE")) && !isVariable(name) {
				return setupError(name, "it is no variable of this provider", "`mxcert providers rfc2136` lists them")
			}
		}
	case "certbot-hook":
		return checkHookVariables(names)
	}
	return nil
}

// Misspelt finds names of variables that a provider of lego's does not have and that differ in one or two letters from
// one that it has: the right name by the wrong one. It may be mistaken, so that it is good for a warning only.
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
		for _, v := range d.Variables { // not the others: nobody is to be led to what is not documented
			for _, candidate := range []string{v.Name, v.File} {
				if n := distance(name, candidate); n < best && candidate != "" {
					best, out[name] = n, candidate
				}
			}
		}
	}
	return out
}

// distance counts the letters to insert, delete, replace or swap with their neighbour to make b of a.
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// sortedAssignments are the variables as os/exec takes them.
func sortedAssignments(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

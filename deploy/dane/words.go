package dane

import "strings"

// reason is why something has to wait at an owner. The text names the owner.
type reason struct{ owner, why string }

// gathered joins reasons. What is the same for several owners is said once, with all their names.
func gathered(reasons []reason) string {
	const name = "\x00"
	var patterns []string
	owners := map[string][]string{}
	for _, r := range reasons {
		pattern := strings.Replace(r.why, r.owner, name, 1)
		if owners[pattern] == nil {
			patterns = append(patterns, pattern)
		}
		owners[pattern] = append(owners[pattern], r.owner)
	}
	texts := make([]string, len(patterns))
	for i, pattern := range patterns {
		texts[i] = strings.Replace(pattern, name, listed(owners[pattern]), 1)
	}
	return strings.Join(texts, "; ")
}

// listed writes words as a list.
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// verb chooses the form of a word for a number of things.
func verb(n int, one, several string) string {
	if n == 1 {
		return one
	}
	return several
}

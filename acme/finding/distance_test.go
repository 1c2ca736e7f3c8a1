package finding

import "testing"

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		n    int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := Distance(tt.a, tt.b); got != tt.n {
			t.Errorf("%q to %q: %d, want %d", tt.a, tt.b, got, tt.n)
		}
		if got := Distance(tt.b, tt.a); got != tt.n {
			t.Errorf("%q to %q: %d, want %d", tt.b, tt.a, got, tt.n)
		}
	}
}

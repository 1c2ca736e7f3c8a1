package page_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestContrast: texts have the contrast of WCAG 2.2 level AA, 4.5 to 1, and parts of bars 3 to 1: in light, in dark, and on paper.
func TestContrast(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(css), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of colours", len(blocks))
	}
	for i, mode := range []string{"light", "dark", "print"} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]+)`).FindAllStringSubmatch(blocks[i][1], -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		check := func(front, back string, least float64) {
			a, okA := colours[front]
			b, okB := colours[back]
			if ratio := (math.Max(a, b) + 0.05) / (math.Min(a, b) + 0.05); !okA || !okB || ratio < least {
				t.Errorf("%s: %s on %s: %.2f, want %.1f", mode, front, back, ratio, least)
			}
		}
		for _, back := range []string{"page", "card"} {
			check("ink", back, 4.5)
			check("soft", back, 4.5)
		}
		for _, kind := range []string{"good", "warn", "bad", "none"} {
			check(kind, kind+"-back", 4.5)
			check(kind, "card", 4.5)
		}
		check("now", "card", 3)
		check("now", "track", 3)
	}
}

// luminance is the relative luminance of a colour (WCAG 2.2).
func luminance(t *testing.T, hex string) (sum float64) {
	t.Helper()
	hex = hex[1:]
	if len(hex) == 3 {
		hex = strings.Repeat(hex[:1], 2) + strings.Repeat(hex[1:2], 2) + strings.Repeat(hex[2:], 2)
	}
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			sum += weight * c / 12.92
		} else {
			sum += weight * math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return sum
}

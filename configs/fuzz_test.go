package configs

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// FuzzLoad wants no panic, and every problem and warning inside the file, for any bytes.
func FuzzLoad(f *testing.F) {
	f.Add(Example())
	for _, pattern := range []string{"testdata/bad/", "testdata/good/"} {
		entries, err := os.ReadDir(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			if data, err := os.ReadFile(pattern + e.Name()); err == nil && strings.HasSuffix(e.Name(), ".yaml") && len(data) < 4096 {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := loadBytes(data)
		if (c == nil) == (err == nil) {
			t.Fatalf("result %v, error %v", c, err)
		}
		if err == nil {
			inside(t, data, c.Warnings(holdsSecret))
			checkEffective(t, c)
			return
		}
		var problems *Problems
		if !errors.As(err, &problems) || len(problems.List) == 0 || problems.Error() == "" {
			t.Fatalf("error %T %v", err, err)
		}
		inside(t, data, problems.List)
	})
}

// inside checks the positions of problems.
func inside(t *testing.T, data []byte, list []Problem) {
	t.Helper()
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	lines := strings.Split(text, "\n")
	for _, p := range list {
		if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len([]rune(lines[p.Line-1]))+1 {
			t.Errorf("%d:%d is outside of the file: %s", p.Line, p.Column, p)
		}
		if p.File == "" || p.Message == "" || strings.ContainsAny(p.String(), "\x1b\x00") {
			t.Errorf("bad problem %#v", p)
		}
	}
}

// checkEffective wants an effective configuration that loads again, unless it hides something.
func checkEffective(t *testing.T, c *Config) {
	t.Helper()
	out, err := c.Effective(holdsSecret)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), hidden) {
		sameAgain(t, c, out)
	}
}

package page_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/page"
)

var update = flag.Bool("update", false, "write the golden files")

func render(t testing.TB, s page.Sight) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := page.HTML(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestExample: a page with everything is as it was when somebody last looked at it.
func TestExample(t *testing.T) {
	t.Parallel()
	golden(t, "example.html", render(t, example()))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at the difference after go test -update", file)
	}
}

// TestManyAreSmall: a page stays small, whatever the host has, and says what it leaves out.
func TestManyAreSmall(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 1000, 5000} {
		began := time.Now()
		text := render(t, many(n))
		t.Logf("figure: %d certificates: %d bytes, %s", n, len(text), time.Since(began))
		if len(text) >= 1<<20 {
			t.Errorf("%d certificates: %d bytes", n, len(text))
		}
		if n == 1000 && (!bytes.Contains(text, []byte("customer-0999<")) || !bytes.Contains(text, []byte("are left out to keep the page small"))) {
			t.Error("a row is missing, or nothing says that details are left out")
		}
	}
}

func BenchmarkHTML(b *testing.B) {
	s := many(1000)
	b.ReportAllocs()
	for b.Loop() {
		render(b, s)
	}
}

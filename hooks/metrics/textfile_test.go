package metrics_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/hooks/metrics"
)

// prom writes a textfile and returns it.
func prom(t *testing.T, file string, s *metrics.Source) string {
	t.Helper()
	if err := metrics.WriteFile(file, s); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTextfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "mxcert.prom")
	old, fresh, kept := file+".123.new", file+".456.new", file+"20261130" // a copy that somebody has made
	long := time.Now().Add(-time.Hour)
	for _, name := range []string{old, fresh, kept, filepath.Join(dir, "other.prom.1.new")} {
		if write(t, name, "half"); name == fresh {
			continue
		}
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
	}
	write(t, file, "mxcert_served_matches 0\n")
	text := prom(t, file, source())
	if page := scrape(t, server(t, source(), nil).Handler()); text != page {
		t.Errorf("the file differs from the page:\n%s\n%s", text, page)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 4 || !slices.Contains(left, fresh) || !slices.Contains(left, kept) { // what another process may be writing stays
		t.Errorf("the directory has %v", left)
	}
}

// A directory that cannot be written to leaves the old file as it is.
func TestTextfileFails(t *testing.T) {
	t.Parallel()
	if err := metrics.WriteFile(filepath.Join(t.TempDir(), "missing", "mxcert.prom"), source()); err == nil {
		t.Error("no error")
	}
	// The error is the same each time, so that it is logged once, and nothing is left.
	taken := filepath.Join(t.TempDir(), "mxcert.prom")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	first, second := metrics.WriteFile(taken, source()), metrics.WriteFile(taken, source())
	left, err := os.ReadDir(filepath.Dir(taken))
	if first == nil || second == nil || first.Error() != second.Error() || err != nil || len(left) != 1 {
		t.Errorf("%v, then %v; the directory has %v (%v)", first, second, left, err)
	}
	if err := new(metrics.Source).Carry(filepath.Join(t.TempDir(), "missing.prom")); err != nil {
		t.Errorf("a missing file: %v", err)
	}
}

// A command that looks at one certificate keeps the others, and counts on.
func TestCarry(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mxcert.prom")
	first := source()
	first.Count([]string{"mx", "new", "left"}, []string{"exim4.service"}, []string{"desk"})
	prom(t, file, first)

	s := &metrics.Source{}
	if err := s.Carry(file); err != nil {
		t.Fatal(err)
	}
	s.Count([]string{"mx", "new"}, []string{"exim4.service", "postfix.service"}, nil)
	s.Set(metrics.Snapshot{Release: "2.0", ConfigGood: true, Configured: []string{"mx", "new"}, Certificates: []metrics.Certificate{{Name: "new", LastSuccess: day(3), Unknown: -1}}})
	s.Renewed("mx", metrics.Success)
	s.Renewed("new", metrics.Failure)
	text := prom(t, file, s)
	for _, line := range []string{
		`mxcert_renewals_total{certificate="mx",result="success"} 2`,
		`mxcert_renewals_total{certificate="new",result="failure"} 1`,
		`mxcert_reloads_total{unit="exim4.service",result="failure"} 1`,
		`mxcert_reloads_total{unit="postfix.service",result="failure"} 0`,
		`mxcert_served_matches{certificate="mx",endpoint="127.0.0.1:25",key="ec256"} 1`,
		`mxcert_last_success_timestamp_seconds{certificate="new"} 1.893672e+09`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing:\n%s", line, text)
		}
	}
	if strings.Contains(text, "left") || strings.Contains(text, "desk") || strings.Count(text, `mxcert_last_success_timestamp_seconds{certificate="new"}`) != 1 || strings.Contains(text, `"1.0`) {
		t.Errorf("what has left is still there:\n%s", text)
	}
	s.Set(metrics.Snapshot{Configured: []string{"new"}, Certificates: []metrics.Certificate{{Name: "new"}}})
	s.Count([]string{"new"}, nil, nil)
	if text := prom(t, file, s); strings.Contains(text, `"mx"`) {
		t.Errorf("mx has left:\n%s", text)
	}
}

// FuzzCarry reads files that anybody may have written.
func FuzzCarry(f *testing.F) {
	f.Add("mxcert_renewals_total{certificate=\"mx\",result=\"success\"} 2\nmxcert_tlsa_matches{certificate=\"mx\",host=\"h\",port=\"25\"} 1 123\n")
	f.Add("# TYPE mxcert_served_matches counter\nmxcert_served_matches{certificate=\"mx\",endpoint=\"e\",key=\"k\"} NaN\n")
	f.Add("mxcert_renewals_total{certificate=\"mx\"} 2\nmxcert_renewals_total -1\n")
	f.Add("# TYPE mxcert_reloads_total histogram\nmxcert_reloads_total_bucket{unit=\"u\",le=\"1\"} 1\n")
	file := filepath.Join(f.TempDir(), "mxcert.prom")
	f.Fuzz(func(t *testing.T, text string) {
		write(t, file, text)
		s := &metrics.Source{}
		if s.Carry(file) != nil {
			return
		}
		s.Set(metrics.Snapshot{Configured: []string{"mx"}})
		s.Count([]string{"mx"}, []string{"u"}, nil)
		scrape(t, server(t, s, nil).Handler())
	})
}

// A counter that is no number would stay so: nothing added to it makes it one.
func TestCarryNoNumbers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mxcert.prom")
	text := "# TYPE mxcert_renewals_total counter\n"
	for i, value := range []string{"NaN", "+Inf", "-Inf", "-3", "1e300"} {
		text += fmt.Sprintf("mxcert_renewals_total{certificate=\"mx%d\",result=\"success\"} %s\n", i, value)
	}
	write(t, file, text)
	s := &metrics.Source{}
	if err := s.Carry(file); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		s.Renewed(fmt.Sprintf("mx%d", i), metrics.Success)
	}
	out := prom(t, file, s)
	for i := range 5 {
		if line := fmt.Sprintf(`mxcert_renewals_total{certificate="mx%d",result="success"} 1`, i); !strings.Contains(out, line+"\n") {
			t.Errorf("%s is missing:\n%s", line, out)
		}
	}
}

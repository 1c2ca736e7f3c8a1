package configs

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expected output anew")

// cases lists the configurations below testdata/dir: NAME.yaml, or NAME/mxcert.yaml where there is a conf.d.
func cases(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", dir))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		file := filepath.Join("testdata", dir, e.Name())
		switch {
		case e.IsDir():
			files[e.Name()] = filepath.Join(file, "mxcert.yaml")
		case filepath.Ext(file) == ".yaml":
			files[strings.TrimSuffix(e.Name(), ".yaml")] = file
		}
	}
	return files
}

// golden compares got with the file beside the configuration.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s\n--- want\n%s", file, got, want)
	}
}

// TestBad loads each kind of bad configuration and compares the error with the file beside it.
func TestBad(t *testing.T) {
	files := cases(t, "bad")
	if len(files) < 50 {
		t.Fatalf("only %d bad configurations found", len(files))
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			c, err := Load(file)
			var problems *Problems
			if c != nil || !errors.As(err, &problems) {
				t.Fatalf("Load = %v, %v; want a *Problems", c, err)
			}
			checkPositions(t, problems.List)
			got := strings.ReplaceAll(err.Error(), filepath.Join("testdata", "bad")+"/", "")
			if strings.Contains(got, "very-secret") || strings.Contains(got, "other-secret") {
				t.Errorf("the error shows a secret:\n%s", got)
			}
			golden(t, filepath.Join("testdata", "bad", name+".txt"), got+"\n")
		})
	}
}

// checkPositions checks that every problem stands in its file.
func checkPositions(t *testing.T, list []Problem) {
	t.Helper()
	for _, p := range list {
		data, err := os.ReadFile(p.File)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(data), "\n") + 1; p.Line < 1 || p.Line > lines || p.Column < 1 {
			t.Errorf("%s: position %d:%d is outside of a file of %d lines", p.Message, p.Line, p.Column, lines)
		}
		if p.Message == "" {
			t.Errorf("%s:%d: no message", p.File, p.Line)
		}
	}
}

// TestGood compares the effective configuration and the warnings of good ones with the file beside them, and loads
// the effective form again.
func TestGood(t *testing.T) {
	for name, file := range cases(t, "good") {
		t.Run(name, func(t *testing.T) {
			c, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			checkPositions(t, located(c.Warnings(holdsSecret)))
			out, err := c.Effective(holdsSecret)
			if err != nil {
				t.Fatal(err)
			}
			got := string(out)
			for _, w := range c.Warnings(holdsSecret) {
				got += strings.ReplaceAll(w.String(), "testdata/good/", "") + "\n"
			}
			golden(t, filepath.Join("testdata", "good", name+".txt"), got)
			if !strings.Contains(string(out), hidden) {
				sameAgain(t, c, out)
			}
		})
	}
}

func located(list []Problem) []Problem {
	var out []Problem
	for _, p := range list {
		if p.Line > 0 {
			out = append(out, p)
		}
	}
	return out
}

// sameAgain loads the effective form of c and wants the same configuration.
func sameAgain(t *testing.T, c *Config, effective []byte) {
	t.Helper()
	again, err := loadBytes(effective)
	if err != nil {
		t.Fatalf("the effective configuration does not load: %v\n%s", err, effective)
	}
	if got, want := settings(again), settings(c); !reflect.DeepEqual(got, want) {
		t.Errorf("the effective configuration differs:\n got %+v\nwant %+v", got, want)
	}
}

// settings is c without what depends on the file it came from.
func settings(c *Config) Config {
	out := *c
	out.index, out.warnings, out.fingerprint = nil, nil, ""
	if len(out.Notify) == 0 {
		out.Notify = nil
	}
	return out
}

func loadBytes(data []byte) (*Config, error) {
	return newLoader().load([]*source{newSource("mxcert.yaml", data)})
}

func TestExample(t *testing.T) {
	c, err := loadBytes(Example())
	if err != nil {
		t.Fatal(err)
	}
	// Whoever leaves the address of the example learns that CAs refuse it.
	if list := c.Warnings(holdsSecret); len(list) != 1 || list[0].Path != "acme.email" {
		t.Errorf("the example has warnings: %v", list)
	}
	out, err := c.Effective(holdsSecret)
	if err != nil {
		t.Fatal(err)
	}
	sameAgain(t, c, out)
}

// TestExampleShowsDefaults loads a configuration that has only what is needed, and wants the rest of the example.
func TestExampleShowsDefaults(t *testing.T) {
	c, err := Load("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e, err := loadBytes(Example())
	if err != nil {
		t.Fatal(err)
	}
	e.ACME.Email, e.DNS.Env, e.Certificates[0].DNS.Env = "", nil, nil
	e.Certificates[0].Deploy[0].Group = ""
	e.Certificates[0].Verify.Endpoints, e.Certificates[0].Verify.EndpointsSet = nil, false
	if got, want := settings(e), settings(c); !reflect.DeepEqual(got, want) {
		t.Errorf("the example does not show the defaults:\n example %+v\ndefaults %+v", got, want)
	}
}

func TestFiles(t *testing.T) {
	c, err := Load("testdata/good/confd/mxcert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := "testdata/good/confd/conf.d/"
	want := []string{"testdata/good/confd/mxcert.yaml", d + "10-a.yaml", d + "20-b.yaml", d + "empty.yaml"}
	if got := c.Files(); !reflect.DeepEqual(got, want) {
		t.Errorf("Files() = %q, want %q", got, want)
	}
	if cert, ok := c.Certificate("b"); !ok || cert.Domains[0] != "b.example.org" {
		t.Errorf("Certificate(b) = %v, %v", cert, ok)
	}
	if _, ok := c.Certificate("c"); ok {
		t.Error("Certificate(c) exists")
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mxcert.yaml")
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "mxcert config example") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("#\n", maxFile/2+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "larger than 1024 KiB") {
		t.Errorf("large file: %v", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	p := fileProblem(file, &fs.PathError{Op: "open", Path: file, Err: fs.ErrPermission})
	if err := (&Problems{List: []Problem{p}}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "as root (sudo)") {
		t.Errorf("no permission: %v", err)
	}
}

// TestUnreadableFragment wants a fault for a file of conf.d that cannot be read: leaving it out would drop certificates.
func TestUnreadableFragment(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mxcert.yaml"), Example(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "conf.d", "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(dir, "mxcert.yaml")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "conf.d/a.yaml") {
		t.Errorf("Load = %v", err)
	}
}

// TestMissingMain wants the certificates of conf.d to be read as such where the main file is missing.
func TestMissingMain(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf.d", "a.yaml"), []byte("log: {level: info}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(filepath.Join(dir, "mxcert.yaml"))
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) != 2 || !strings.Contains(err.Error(), "a file in conf.d can only have certificates") {
		t.Errorf("Load = %v", err)
	}
}

func TestAt(t *testing.T) {
	c, err := loadBytes([]byte("acme: {agree_tos: true}\ndns:\n  provider: exec\ncertificates:\n  - name: a\n    domains: [a.example.org]\n    dns:\n      provider: rfc2136\n"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path, text string
		line, col  int
	}{
		{"dns.provider", "  provider: exec", 3, 13},
		{"certificates[0].dns.provider", "      provider: rfc2136", 8, 17},
		{"certificates[0].dns.env.X", "    dns:", 7, 5},
		{"certificates[0].keys[0]", "  - name: a", 5, 5},
		{"certificates[7]", "certificates:", 4, 1},
		{"hooks.directory", "acme: {agree_tos: true}", 1, 1},
	}
	for _, tt := range tests {
		p := c.At(tt.path)
		if p.File != "mxcert.yaml" || p.Line != tt.line || p.Column != tt.col || p.Text != tt.text || p.Path != tt.path {
			t.Errorf("At(%s) = %+v, want %d:%d %q", tt.path, p, tt.line, tt.col, tt.text)
		}
	}
}

// The fingerprint changes with every byte of every file, and is known without parsing.
func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	file, fragment := filepath.Join(dir, "mxcert.yaml"), filepath.Join(dir, "conf.d", "a.yaml")
	good, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(fragment), 0o700); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for what, texts := range map[string][2]string{
		"as it is": {string(good), "certificates: []\n"}, "a comment": {"# x\n" + string(good), "certificates: []\n"}, "a comment in conf.d": {string(good), "certificates: []\n# x\n"},
		"moved from one file to the other": {string(good) + "#", "certificates: []\n"}, "a byte more in the other": {string(good), "#certificates: []\n"},
	} {
		for path, text := range map[string]string{file: texts[0], fragment: texts[1]} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		quick, ok := Read(file).Fingerprint()
		if !ok || len(quick) != 16 || seen[quick] != "" {
			t.Errorf("%s: %q, %v, the same as %q", what, quick, ok, seen[quick])
		}
		seen[quick] = what
		if c, err := Load(file); err != nil || c.Fingerprint() != quick {
			t.Errorf("%s: Load disagrees: %v", what, err)
		}
	}
	if _, ok := Read(filepath.Join(dir, "missing.yaml")).Fingerprint(); ok {
		t.Error("a missing file has a fingerprint")
	}
}

package dnsprovider

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestGeneratedFiles are what the generator makes of the version of lego in go.mod.
func TestGeneratedFiles(t *testing.T) {
	directory := t.TempDir()
	if out, err := exec.Command("go", "run", "gen_main.go", "gen_source.go", "gen_toml.go", directory).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"constructors_all.go", "lego.json", "lego_all.json"} {
		if !bytes.Equal(contents(t, name), contents(t, filepath.Join(directory, name))) {
			t.Errorf("%s is not what `go generate` makes", name)
		}
	}
}

// TestAllProviders compares the full build with lego's own list, without compiling it.
func TestAllProviders(t *testing.T) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-acme/lego/v4").Output()
	if err != nil {
		t.Fatal(err)
	}
	table := literals(t, "constructors_all.go", func(n ast.Node) []ast.Expr {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			return []ast.Expr{kv.Key}
		}
		return nil
	})
	var described map[string]Description
	if err := json.Unmarshal(contents(t, "lego_all.json"), &described); err != nil {
		t.Fatal(err)
	}
	names := 0
	literals(t, filepath.Join(strings.TrimSpace(string(root)), "providers/dns/zz_gen_dns_providers.go"), func(n ast.Node) []ast.Expr {
		c, ok := n.(*ast.CaseClause)
		if !ok {
			return nil
		}
		for _, e := range c.List {
			name, _ := strconv.Unquote(e.(*ast.BasicLit).Value)
			names++
			if _, ours := own()[canonical(name)]; ours || name == "manual" {
				continue
			}
			if !slices.Contains(table, canonical(name)) {
				t.Errorf("lego has %s, the full build has not", name)
			}
			if d := described[canonical(name)]; d.Name == "" || len(d.Variables) == 0 {
				t.Errorf("%s is not described: %+v", name, d)
			}
		}
		return nil
	})
	if names < 195 || len(table) < 190 || len(described) != len(table) {
		t.Errorf("%d names of lego's, %d in the table, %d described", names, len(table), len(described))
	}
	for name := range constructors() {
		if !slices.Contains(table, name) {
			t.Errorf("this build has %s, the full build has not", name)
		}
	}
}

// TestFindings are checked against what was read in lego's source by eye.
func TestFindings(t *testing.T) {
	var described map[string]struct {
		Description
		Other []string `json:"other"`
	}
	if err := json.Unmarshal(contents(t, "lego_all.json"), &described); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		provider              string
		sequential, forgetful bool
		required              string
	}{
		{"cloudflare", false, true, ""}, // one of three sets
		{"desec", false, false, "DESEC_TOKEN"},
		{"acme-dns", false, false, "ACME_DNS_API_BASE"},
		{"duckdns", true, false, "DUCKDNS_TOKEN"},
		{"gandiv5", false, true, ""}, // a key, or a token
		{"ovh", false, true, ""},
		{"hetzner", false, false, ""},
		{"netcup", false, false, "NETCUP_CUSTOMER_NUMBER NETCUP_API_KEY NETCUP_API_PASSWORD"},
		{"joker", true, false, ""}, // depends on the mode
		{"neodigit", false, true, "NEODIGIT_TOKEN"},
		{"easydns", true, true, ""},
		{"alidns", false, false, ""}, // a role, or a key
		{"pdns", false, false, "PDNS_API_KEY PDNS_API_URL"},
	} {
		d := described[tt.provider]
		var required []string
		for _, v := range d.Variables {
			if v.Required {
				required = append(required, v.Name)
			}
		}
		if d.Sequential != tt.sequential || d.Forgetful != tt.forgetful || strings.Join(required, " ") != tt.required {
			t.Errorf("%s: sequential %t, forgetful %t, required %q", tt.provider, d.Sequential, d.Forgetful, required)
		}
	}
	if !slices.Contains(described["hetzner"].Other, "HETZNER_API_KEY") {
		t.Errorf("what is read and not described: %q", described["hetzner"].Other)
	}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func literals(t *testing.T, path string, pick func(ast.Node) []ast.Expr) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		for _, e := range pick(n) {
			if literal, ok := e.(*ast.BasicLit); ok {
				value, _ := strconv.Unquote(literal.Value)
				out = append(out, value)
			}
		}
		return true
	})
	return out
}

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestChildrenHaveTheirOwnEnvironment: while a DNS provider is set up, its secrets are in the environment of mxcert. So
// each function of mxcert that starts a program says what the program sees, instead of leaving it mxcert's own.
func TestChildrenHaveTheirOwnEnvironment(t *testing.T) {
	found := 0
	list := goList(t, "-deps", "-f", `{{if not .Standard}}{{range .GoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}`, "mxcert/cmd/mxcert")
	for _, line := range strings.Split(list, "\n") {
		pkg, path, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(pkg, "mxcert/") {
			continue
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			starts, says := childrenOf(declaration)
			if starts {
				found++
			}
			if starts && !says {
				t.Errorf("%s:%d starts a program with the environment of mxcert: set Env", filepath.Base(path), positions.Position(declaration.Pos()).Line)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d functions start programs: this test sees nothing", found)
	}
}

// childrenOf reports whether a function starts a program, and whether it says what that sees.
func childrenOf(declaration ast.Decl) (starts, says bool) {
	ast.Inspect(declaration, func(n ast.Node) bool {
		if assignment, ok := n.(*ast.AssignStmt); ok {
			for _, left := range assignment.Lhs {
				field, ok := left.(*ast.SelectorExpr)
				says = says || ok && field.Sel.Name == "Env"
			}
		}
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			name, ok := kv.Key.(*ast.Ident)
			says = says || ok && name.Name == "Env"
		}
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := selector.X.(*ast.Ident); ok {
			switch pkg.Name + "." + selector.Sel.Name {
			case "exec.Command", "exec.CommandContext", "os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec", "unix.Exec":
				starts = true
			}
		}
		return true
	})
	return starts, says
}

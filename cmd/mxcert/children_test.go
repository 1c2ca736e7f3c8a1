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
// only hooks/run starts programs, and it says what they see, instead of leaving them mxcert's own environment.
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
			line := positions.Position(declaration.Pos()).Line
			switch {
			case !starts:
			case pkg == "mxcert/cmd/mxcert" && filepath.Base(path) == "first.go": // mxcert itself, before a secret has been read
			case pkg != "mxcert/hooks/run":
				t.Errorf("%s %s:%d starts a program: use hooks/run", pkg, filepath.Base(path), line)
			case !says:
				t.Errorf("%s:%d starts a program with the environment of mxcert: set Env", filepath.Base(path), line)
			default:
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("%d functions of hooks/run start programs: this test expects one", found)
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
		if literal, ok := n.(*ast.CompositeLit); ok && qualified(literal.Type) == "exec.Cmd" {
			starts = true
		}
		if name, ok := n.(ast.Expr); ok {
			switch qualified(name) {
			case "exec.Command", "exec.CommandContext", "os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec", "unix.Exec":
				starts = true
			}
		}
		return true
	})
	return starts, says
}

// qualified is an expression as package.Name, "" if it is another one.
func qualified(e ast.Expr) string {
	if selector, ok := e.(*ast.SelectorExpr); ok {
		if pkg, ok := selector.X.(*ast.Ident); ok {
			return pkg.Name + "." + selector.Sel.Name
		}
	}
	return ""
}

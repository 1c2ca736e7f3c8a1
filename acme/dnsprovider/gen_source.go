//go:build ignore

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// cases reads lego's own list: the first name of each case, and the package it calls.
func cases(file string) map[string]string {
	out := map[string]string{}
	ast.Inspect(parse(file), func(n ast.Node) bool {
		if c, ok := n.(*ast.CaseClause); ok && len(c.List) > 0 {
			call := c.Body[0].(*ast.ReturnStmt).Results[0].(*ast.CallExpr)
			out[text(c.List[0])] = call.Fun.(*ast.SelectorExpr).X.(*ast.Ident).Name
		}
		return true
	})
	return out
}

// keysOf returns the keys of the map of a table.
func keysOf(file string) (keys []string) {
	ast.Inspect(parse(file), func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			keys = append(keys, text(kv.Key))
		}
		return true
	})
	return keys
}

// source is the code of one provider, with the inner packages that do its work.
type source struct {
	files     []*ast.File
	constants map[string]string
}

func newSource(root, pkg string) *source {
	s := &source{constants: map[string]string{}}
	s.add(root, pkg)
	return s
}

const home = "github.com/go-acme/lego/v4/providers/dns/"

func (s *source) add(root, pkg string) {
	entries, err := os.ReadDir(filepath.Join(root, pkg))
	check(err)
	for _, entry := range entries {
		if !wanted(entry) {
			continue
		}
		file := parse(filepath.Join(root, pkg, entry.Name()))
		s.files = append(s.files, file)
		for _, imported := range file.Imports {
			inner, ok := strings.CutPrefix(text(imported.Path), home)
			if !ok || !hasProvider(filepath.Join(root, inner)) {
				continue
			}
			s.add(root, inner)
		}
	}
	for range 3 { // constants are made of constants, in any order
		for _, file := range s.files {
			s.collect(file)
		}
	}
}

func wanted(entry fs.DirEntry) bool {
	return strings.HasSuffix(entry.Name(), ".go") && !strings.HasSuffix(entry.Name(), "_test.go")
}

func hasProvider(directory string) bool {
	files, err := filepath.Glob(filepath.Join(directory, "*.go"))
	check(err)
	return slices.ContainsFunc(files, func(file string) bool {
		content, err := os.ReadFile(file)
		check(err)
		return strings.Contains(string(content), ") CleanUp(") && !strings.HasSuffix(file, "_test.go")
	})
}

func (s *source) collect(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		for i := 0; ok && i < min(len(spec.Names), len(spec.Values)); i++ {
			if value, ok := s.value(spec.Values[i]); ok {
				s.constants[spec.Names[i].Name] = value
			}
		}
		return true
	})
}

// value computes a constant string.
func (s *source) value(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return text(e), e.Kind == token.STRING
	case *ast.Ident:
		v, ok := s.constants[e.Name]
		return v, ok
	case *ast.BinaryExpr:
		left, ok1 := s.value(e.X)
		right, ok2 := s.value(e.Y)
		return left + right, ok1 && ok2 && e.Op == token.ADD
	}
	return "", false
}

// examine adds to the description what only the code shows.
func (s *source) examine(p *provider) {
	required := s.required()
	known := map[string]bool{}
	p.Variables = slices.DeleteFunc(p.Variables, func(v variable) bool { return ours(v.Name) })
	for i := range p.Variables {
		v := &p.Variables[i]
		v.Required = v.Credential && slices.Contains(required, v.Name)
		known[v.Name] = true
	}
	for name, value := range s.constants {
		if strings.HasPrefix(strings.ToLower(name), "env") || strings.HasPrefix(name, "altEnv") {
			if variableName.MatchString(value) && !known[value] && !ours(value) && !slices.Contains(p.Other, value) {
				p.Other = append(p.Other, value)
			}
		}
	}
	slices.Sort(p.Other)
	p.Sequential = s.has("Sequential", func(*ast.FuncDecl, ast.Node) bool { return true })
	p.Forgetful = s.has("CleanUp", s.usesMemory)
}

// ours recognises settings that do not belong to the provider: mxcert waits for DNS itself (dns.propagation), and a proxy
// belongs to the process.
func ours(name string) bool {
	return strings.HasSuffix(name, "_POLLING_INTERVAL") || strings.HasSuffix(name, "_PROPAGATION_TIMEOUT") ||
		strings.HasSuffix(name, "_PROXY") || name == "REQUEST_METHOD"
}

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$`)

// required returns the variables of an env.Get that every set-up reaches: it is the first in NewDNSProvider, nothing before it
// can return, and an error ends the set-up.
func (s *source) required() (names []string) {
	for _, file := range s.files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != "NewDNSProvider" || f.Recv != nil {
				continue
			}
			return s.requiredBy(f.Body.List)
		}
	}
	return nil
}

func (s *source) requiredBy(statements []ast.Stmt) (names []string) {
	for i, statement := range statements {
		if assign, ok := statement.(*ast.AssignStmt); ok && i+1 < len(statements) {
			call, isCall := assign.Rhs[0].(*ast.CallExpr)
			if isCall && calls(call, "env", "Get") && givesUp(statements[i+1]) {
				return s.values(call.Args)
			}
			if isCall && calls(call, "env", "GetWithFallback") && givesUp(statements[i+1]) {
				for _, group := range call.Args {
					if list, ok := group.(*ast.CompositeLit); ok && len(list.Elts) == 1 {
						names = append(names, s.values(list.Elts)...)
					}
				}
				return names
			}
		}
		if returns(statement) {
			return nil
		}
	}
	return nil
}

func (s *source) values(expressions []ast.Expr) (out []string) {
	for _, e := range expressions {
		if v, ok := s.value(e); ok {
			out = append(out, v)
		}
	}
	return out
}

// givesUp recognises `if err != nil { return … }` without anything else.
func givesUp(statement ast.Stmt) bool {
	branch, ok := statement.(*ast.IfStmt)
	if !ok || branch.Else != nil || len(branch.Body.List) != 1 {
		return false
	}
	condition, ok := branch.Cond.(*ast.BinaryExpr)
	return ok && condition.Op == token.NEQ && returns(branch.Body.List[0])
}

func returns(n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		_, is := n.(*ast.ReturnStmt)
		found = found || is
		return true
	})
	return found
}

func calls(call *ast.CallExpr, pkg, function string) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != function {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// has reports whether a method of that name has a node that matches.
func (s *source) has(method string, match func(*ast.FuncDecl, ast.Node) bool) (found bool) {
	for _, file := range s.files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == method {
				ast.Inspect(f, func(n ast.Node) bool {
					found = found || n != nil && match(f, n)
					return true
				})
			}
		}
	}
	return found
}

// usesMemory recognises d.recordIDs[…]: a map in the provider that Present has filled.
func (s *source) usesMemory(f *ast.FuncDecl, n ast.Node) bool {
	index, ok := n.(*ast.IndexExpr)
	if !ok || len(f.Recv.List[0].Names) == 0 {
		return false
	}
	field, ok := index.X.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := field.X.(*ast.Ident)
	return ok && x.Name == f.Recv.List[0].Names[0].Name
}

func parse(file string) *ast.File {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	check(err)
	return f
}

func text(e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(literal.Value)
	check(err)
	return s
}

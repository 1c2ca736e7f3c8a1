package main

import (
	"go/ast"
	"go/token"
	"slices"
)

// room is a measured package: the code in one directory.
type room struct {
	path       string
	files      []string // names of the files, without tests
	lines      int      // of these files, including comments and empty lines
	testLines  int
	functions  []int // lines of each function and method, from its first to its last, without its comment; sorted
	exported   int   // functions, types, variables and constants; methods do not count
	documented int   // how many of these, and of the exported methods of exported types, have a comment
	documents  int   // how many could have one
	arrows     []arrow
	floors     int
	circles    [][]string // files that reach each other, the largest circle first
}

func measure(path string, fset *token.FileSet, sources, tests []source) *room {
	r := &room{path: path}
	for _, s := range sources {
		r.files = append(r.files, s.name)
		r.lines += s.lines
		for _, d := range s.tree.Decls {
			r.declaration(fset, d)
		}
	}
	for _, s := range tests {
		r.testLines += s.lines
	}
	slices.Sort(r.functions)
	r.arrows = arrowsOf(fset, sources)
	r.floors, r.circles = floorsOf(r.files, r.arrows)
	return r
}

func (r *room) declaration(fset *token.FileSet, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		r.functions = append(r.functions, fset.Position(d.End()).Line-fset.Position(d.Pos()).Line+1)
		if d.Name.IsExported() && exportedReceiver(d) {
			r.name(d.Recv == nil, d.Doc)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() {
					r.name(true, d.Doc, spec.Doc, spec.Comment)
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() {
						r.name(true, d.Doc, spec.Doc, spec.Comment)
					}
				}
			}
		}
	}
}

// name counts an exported name. The comment of a group documents each of its names.
func (r *room) name(counts bool, comments ...*ast.CommentGroup) {
	if counts {
		r.exported++
	}
	r.documents++
	if slices.ContainsFunc(comments, func(c *ast.CommentGroup) bool { return c != nil }) {
		r.documented++
	}
}

// exportedReceiver reports whether a function is not a method, or is a method of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch inner := t.(type) {
		case *ast.StarExpr:
			t = inner.X
		case *ast.IndexExpr:
			t = inner.X
		case *ast.IndexListExpr:
			t = inner.X
		case *ast.Ident:
			return inner.IsExported()
		default:
			return false
		}
	}
}

// percentile returns the nearest-rank percentile of a sorted list, or 0 for an empty one.
func percentile(sorted []int, percent int) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

package main

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// arrow leads from a file to another one of its package.
type arrow struct {
	from, to string
	names    []string // of the definitions used, sorted
}

// arrowsOf finds the arrows between the files of a directory, sorted. Files with different package clauses (such as a generator next to the
// package) have no arrows between them.
func arrowsOf(fset *token.FileSet, sources []source) []arrow {
	byName := map[string][]*ast.File{}
	for _, s := range sources {
		byName[s.tree.Name.Name] = append(byName[s.tree.Name.Name], s.tree)
	}
	uses := map[[2]string]map[string]bool{}
	for name, files := range byName {
		collectUses(uses, fset, name, files)
	}
	var list []arrow
	for ends, names := range uses {
		a := arrow{from: ends[0], to: ends[1]}
		for name := range names {
			a.names = append(a.names, name)
		}
		slices.Sort(a.names)
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b arrow) int { return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.to, b.to)) })
	return list
}

// collectUses resolves the names of one package. It treats imported packages as empty: they declare nothing of this package, and methods of
// this package's types are found without them.
func collectUses(uses map[[2]string]map[string]bool, fset *token.FileSet, name string, files []*ast.File) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	checker := types.Config{Importer: nothing{}, Error: func(error) {}, FakeImportC: true}
	pkg, _ := checker.Check(name, fset, files, info) // everything imported is missing, so errors are expected
	for id, object := range info.Uses {
		if object.Pkg() != pkg || !isDefinition(pkg, object) {
			continue
		}
		from, to := fileOf(fset, id.Pos()), fileOf(fset, object.Pos())
		if from == to {
			continue
		}
		ends := [2]string{from, to}
		if uses[ends] == nil {
			uses[ends] = map[string]bool{}
		}
		uses[ends][object.Name()] = true
	}
}

// isDefinition reports whether an object is a method or is declared at package level.
func isDefinition(pkg *types.Package, object types.Object) bool {
	if object.Parent() == pkg.Scope() {
		return true
	}
	f, ok := object.(*types.Func)
	return ok && f.Signature().Recv() != nil
}

func fileOf(fset *token.FileSet, at token.Pos) string {
	return filepath.Base(fset.File(at).Name())
}

// nothing imports every package as an empty one.
type nothing struct{}

// Import implements types.Importer.
func (nothing) Import(importPath string) (*types.Package, error) {
	pkg := types.NewPackage(importPath, path.Base(importPath))
	pkg.MarkComplete()
	return pkg, nil
}

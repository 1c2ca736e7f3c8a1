package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// house is a measured tree.
type house struct {
	packages []*room // by path
}

// source is one file of Go.
type source struct {
	name  string // without the directory
	lines int
	tree  *ast.File
}

// measureTrees measures the same directories below each tree. A directory must exist in at least one of them.
func measureTrees(trees, dirs []string) ([]house, error) {
	houses := make([]house, len(trees))
	for _, dir := range dirs {
		dir = filepath.Clean(strings.TrimSuffix(dir, "..."))
		found := false
		for i, tree := range trees {
			root := filepath.Join(tree, dir)
			if filepath.IsAbs(dir) {
				root = dir
			}
			if _, err := os.Stat(root); err != nil {
				continue
			}
			found = true
			list, err := roomsBelow(root, dir)
			if err != nil {
				return nil, err
			}
			houses[i].packages = append(houses[i].packages, list...)
		}
		if !found {
			return nil, fmt.Errorf("there is no directory %s; give directories, not import paths", dir)
		}
	}
	for _, h := range houses {
		slices.SortFunc(h.packages, func(a, b *room) int { return strings.Compare(a.path, b.path) })
	}
	return houses, nil
}

// roomsBelow measures the packages at root and below it. name is the beginning of their paths in the report.
func roomsBelow(root, name string) ([]*room, error) {
	var list []*room
	err := filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if dir != root && ignored(entry.Name()) {
			return filepath.SkipDir
		}
		below, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		r, err := readRoom(dir, filepath.ToSlash(filepath.Join(name, below)))
		if r != nil {
			list = append(list, r)
		}
		return err
	})
	return list, err
}

// ignored reports whether a directory with that name contains no code of the tree itself (go help packages).
func ignored(name string) bool {
	return name == "vendor" || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

// readRoom measures the package in dir. It returns nil if there are no Go files.
func readRoom(dir, path string) (*room, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var sources, tests []source
	for _, name := range names {
		s, err := readSource(fset, name)
		switch {
		case err != nil:
			return nil, err
		case ast.IsGenerated(s.tree):
		case strings.HasSuffix(name, "_test.go"):
			tests = append(tests, s)
		default:
			sources = append(sources, s)
		}
	}
	if len(sources)+len(tests) == 0 {
		return nil, nil //nolint:nilnil // a directory without Go files is not a package
	}
	return measure(path, fset, sources, tests), nil
}

func readSource(fset *token.FileSet, name string) (source, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return source{}, err
	}
	tree, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	return source{name: filepath.Base(name), lines: strings.Count(string(text), "\n"), tree: tree}, nil
}

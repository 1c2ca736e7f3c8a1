// Command house measures how a tree of Go packages is built: how large the packages are, how many files of one package use each other, how
// long functions are, how much of what is exported is documented, and how much test code there is. It reads only source text: no build, no
// network, no build tags (the files of all platforms count). It only measures and sets no limits: whatever it finds, it exits with 0.
//
//	go run ./packaging/house [-v] [-md] [-before TREE] [DIR…]
//
// A DIR means this directory and everything below it; without one it is the current directory. Generated files, vendor, testdata and
// directories that the go command ignores are left out. With -before, house also measures the same directories of another tree, for
// comparison.
//
// An arrow leads from a file to another file of the same package if the first uses at least one definition of the second: a function, a
// type, a variable, a constant or a method (go/types resolves the names; fields do not count). Files that reach each other form a circle.
// Floors is the number of files in the longest chain of arrows, if each circle counts as one file. Circle is the number of files in the
// largest circle. Percentiles are nearest-rank.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("house", flag.ContinueOnError)
	flags.SetOutput(stderr)
	verbose := flags.Bool("v", false, "list the arrows and the circles too")
	markdown := flags.Bool("md", false, "print Markdown")
	before := flags.String("before", "", "measure the same directories of this `TREE` too, and print both")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dirs := flags.Args()
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	trees := []string{"."}
	if *before != "" {
		trees = []string{*before, "."}
	}
	houses, err := measureTrees(trees, dirs)
	if err != nil {
		return err
	}
	sheet := compare(houses)
	if *markdown {
		sheet.writeMarkdown(stdout)
	} else {
		sheet.writeText(stdout)
	}
	if *verbose {
		writeArrows(stdout, houses[len(houses)-1])
	}
	return nil
}

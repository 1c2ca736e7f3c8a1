// Command house measures how a tree of Go packages is built: how large the packages are, how many files of one package use
// each other, how long functions are, how much of what is exported is documented, how much test there is. It reads
// source text only: no build, no network, no build tags (the files of all platforms count). It is a measure and no gate:
// it exits with 0 whatever it finds.
//
//	go run ./packaging/house [-v] [-md] [-before TREE] [DIR…]
//
// A DIR stands for itself and everything below it; without one, the current directory. Generated files, vendor, testdata and
// directories that the go command ignores are left out. -before measures the same directories of another tree beside it.
//
// An arrow leads from a file to another file of the same package of which it uses at least one definition: a function, a
// type, a variable, a constant or a method (names are resolved by go/types; fields do not count). Floors is the longest
// chain of arrows, counted in files, after each circle of files has been collapsed into one; circle is how many files the
// largest of these has. Percentiles are nearest-rank.
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

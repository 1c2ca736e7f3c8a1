// Command man writes the manual pages of mxcert: one of section 1 for each command, from the command tree; mxcert.yaml(5), from
// the JSON schema of the configuration; and those of section 7, from the Markdown files beside this one. mxcert.service.8 is
// written by hand and is not touched.
//
//	go run ./packaging/man [--date 2026-11-29] [--version 1.2.3] DIRECTORY
//
// The pages come to lie in man1, man5 and man7 below DIRECTORY. They depend on the arguments and the source alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	// A default value that the environment sets must not be in the pages.
	_ = os.Unsetenv("NO_COLOR")
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("man", flag.ContinueOnError)
	date := flags.String("date", time.Now().UTC().Format(time.DateOnly), "`date` of the pages")
	version := flags.String("version", "0.0.0-dev", "`version` of mxcert that they describe")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("name one directory for the pages")
	}
	at, err := time.Parse(time.DateOnly, *date)
	if err != nil {
		return fmt.Errorf("--date: %w", err)
	}
	all, err := pages(edition{version: *version, date: at})
	if err != nil {
		return err
	}
	for name, text := range all {
		file := filepath.Join(flags.Arg(0), "man"+filepath.Ext(name)[1:], name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // everybody may read them
			return err
		}
	}
	return nil
}

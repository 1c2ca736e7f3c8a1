// Command man writes the manual pages of mxcert. It makes one page of section 1 for each command, from the command tree. It makes
// mxcert.yaml(5) from the JSON schema of the configuration, and the pages of section 7 from the Markdown files next to this one. It does
// not touch mxcert.service.8, which a person writes.
//
//	go run ./packaging/man [--date 2026-11-29] [--version 1.2.3] DIRECTORY
//
// It writes the pages to man1, man5 and man7 below DIRECTORY. The pages depend only on the arguments and the source, so the same input
// always gives the same pages.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	// The pages must not contain a default value that comes from the environment.
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

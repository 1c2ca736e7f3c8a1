package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The help does without cobra's templates: if a program uses templates, the linker keeps every exported method, and mxcert becomes half as
// large again.

// help prints the text of a command, broken at the width of the terminal, and its usage.
func (a *app) help(cmd *cobra.Command, _ []string) {
	text := strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short))
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", reflow(text, a.stdout.width()))
	if cmd.Runnable() || cmd.HasSubCommands() {
		_ = usageTo(cmd, cmd.OutOrStdout()) // the console remembers what could not be written
	}
}

// usageTo prints the usage of a command to standard output, because somebody has asked for it.
func usageTo(cmd *cobra.Command, out io.Writer) error {
	before := cmd.OutOrStderr()
	cmd.SetOut(out)
	defer cmd.SetOut(before)
	return cmd.Usage()
}

// reflow breaks the paragraphs of a text anew. Paragraphs that are indented stay as they are.
func reflow(text string, width int) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if !strings.HasPrefix(p, " ") {
			paragraphs[i] = fold(strings.Join(strings.Fields(p), " "), 0, 0, width)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// usage prints the usage of a command as cobra does, but breaks the texts of flags at the width of the terminal, and names the place of the
// global flags instead of the flags.
func (a *app) usage(cobras func(*cobra.Command) error) func(*cobra.Command) error {
	return func(cmd *cobra.Command) error {
		out := cmd.OutOrStderr()
		var text strings.Builder
		cmd.SetOut(&text)
		err := cobras(cmd)
		cmd.SetOut(out)
		const title = "Global Flags:\n"
		before, list, global := strings.Cut(text.String(), title)
		if global {
			_, after, more := strings.Cut(list, "\n\n")
			before += title + "  see: mxcert --help\n"
			if more {
				before += "\n" + after
			}
		}
		flags := cmd.LocalFlags()
		wide, narrow := strings.TrimRight(flags.FlagUsages(), " \n"), strings.TrimRight(flags.FlagUsagesWrapped(a.stdout.width()), " \n")
		if wide != "" {
			before = strings.Replace(before, wide, narrow, 1)
		}
		_, writeErr := io.WriteString(out, before)
		return errors.Join(err, writeErr)
	}
}

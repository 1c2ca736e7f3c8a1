//go:build man

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/configs"
)

func init() { extraCommands = append(extraCommands, (*app).manCommand) } //nolint:gochecknoinits // a build of its own, for packagers

// manCommand writes the manual pages: one for each command, and mxcert.yaml(5). It is not in the program that is shipped.
func (a *app) manCommand() *cobra.Command {
	var date string
	cmd := &cobra.Command{
		Use: "man DIRECTORY", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := time.Parse(time.DateOnly, date)
			if err != nil {
				return report.Usage("--date: %v", err)
			}
			if err := writeSettings(args[0], a.version, at, configs.Schema()); err != nil {
				return err
			}
			return writePages(cmd.Root(), args[0], a.version, at)
		},
	}
	cmd.Flags().StringVar(&date, "date", time.Now().UTC().Format(time.DateOnly), "date of the pages")
	return cmd
}

// writePages writes the page of a command and of those below it.
func writePages(cmd *cobra.Command, dir, version string, at time.Time) error {
	if cmd.Hidden || cmd.Name() == "help" {
		return nil
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(commandPage(cmd, name, version, at)), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if err := writePages(sub, dir, version, at); err != nil {
			return err
		}
	}
	return nil
}

func commandPage(cmd *cobra.Command, name, version string, at time.Time) string {
	var page strings.Builder
	fmt.Fprintf(&page, ".TH %s 1 %q %q \"User commands\"\n", strings.ToUpper(roff(name)), at.Format(time.DateOnly), "mxcert "+version)
	fmt.Fprintf(&page, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n", roff(name), roff(cmd.Short), roff(cmd.CommandPath()))
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	if cmd.HasAvailableSubCommands() {
		arguments = "COMMAND"
	}
	fmt.Fprintf(&page, ".RI [ options ] \" %s\"\n.SH DESCRIPTION\n", roff(arguments))
	page.WriteString(paragraphs(firstOf(cmd.Long, cmd.Short+".")))
	if cmd.Example != "" {
		fmt.Fprintf(&page, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	writeFlags(&page, "OPTIONS", cmd.NonInheritedFlags())
	writeFlags(&page, "GLOBAL OPTIONS", cmd.InheritedFlags())
	if !cmd.HasParent() {
		page.WriteString(exitStatus)
	}
	page.WriteString(".SH SEE ALSO\n")
	var see []string
	if cmd.HasParent() {
		see = append(see, strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-")+" 1")
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			see = append(see, strings.ReplaceAll(sub.CommandPath(), " ", "-")+" 1")
		}
	}
	for i, ref := range append(see, "mxcert.yaml 5", "mxcert.service 8") {
		page1, section, _ := strings.Cut(ref, " ")
		comma := ","
		if i == len(see)+1 {
			comma = ""
		}
		fmt.Fprintf(&page, ".BR %s (%s)%s\n", roff(page1), section, comma)
	}
	return page.String()
}

const exitStatus = `.SH EXIT STATUS
.TP
.B 0
Converged, changed or not.
.TP
.B 1
Failed.
.TP
.B 2
Wrong usage.
.TP
.B 3
verify, doctor or check found a fault.
.TP
.B 4
Some certificates failed, others did not.
.TP
.B 5
Issued, but not in service: the deployment failed or was taken back.
.TP
.B 10
With \-\-detailed\-exitcode: converged and changed.
.TP
.B 75
Temporary: try again later.
.TP
.B 77
No permission.
.TP
.B 78
Bad configuration.
.SH FILES
.TP
.I /etc/mxcert/mxcert.yaml
The configuration, see
.BR mxcert.yaml (5).
.TP
.I /etc/mxcert/credentials
Secrets that the configuration refers to.
.TP
.I /etc/mxcert/hooks
Programs in pre.d, deploy.d, post.d and fail.d.
.TP
.I /var/lib/mxcert
Accounts, keys, certificates, and what is under way.
`

func writeFlags(page *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	page.WriteString(".SH " + title + "\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			value = " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0s" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(page, ".TP\n.B %s\n%s\n", roff(name+value), roff(text))
	})
}

// paragraphs turns empty lines into paragraphs, and indented lines into examples.
func paragraphs(text string) string {
	var out strings.Builder
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString(".PP\n")
		}
		if strings.ContainsAny(p[:1], " \t") || strings.Contains(p, "\n ") || strings.Contains(p, "\n\t") {
			out.WriteString(".nf\n" + roff(p) + "\n.fi\n")
			continue
		}
		for _, line := range strings.Split(p, "\n") {
			out.WriteString(roff(line) + "\n")
		}
	}
	return out.String()
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// commandPages adds the page of a command and the pages of its subcommands.
func commandPages(all map[string]string, cmd *cobra.Command, e edition) error {
	if !cmd.IsAvailableCommand() && cmd.HasParent() {
		return nil
	}
	text, err := commandPage(cmd, e)
	if err != nil {
		return err
	}
	all[pageName(cmd)+".1"] = text
	for _, sub := range cmd.Commands() {
		if err := commandPages(all, sub, e); err != nil {
			return err
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// option matches a flag as cobra/doc writes it: a paragraph, then its meaning after a tab.
var option = regexp.MustCompile(`(?m)(?:^\.PP\n)?^(\\fB-.*?)=?\n\t(.*)$`)

// commandPage writes a page with cobra/doc. It then corrects what mandoc(1) complains about and what would confuse a reader.
func commandPage(cmd *cobra.Command, e edition) (string, error) {
	prepare(cmd)
	var page bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{Date: &e.date, Source: e.source(), Manual: "User commands"}, &page); err != nil {
		return "", err
	}
	text := strings.Replace(page.String(), e.date.Format(`"Jan 2006"`), e.date.Format(`"2006-01-02"`), 1)
	text = option.ReplaceAllString(text, ".TP\n$1\n$2")
	text = strings.Replace(text, ".SH EXAMPLE\n", ".SH EXAMPLES\n", 1)
	if own, inherited, ok := strings.Cut(text, ".SH OPTIONS INHERITED FROM PARENT COMMANDS\n"); ok {
		text = own + globalOptions(cmd) + inherited[strings.Index(inherited, ".SH "):]
	}
	text, see, _ := strings.Cut(text, ".SH SEE ALSO\n")
	if !cmd.HasParent() {
		text += rootSections
	}
	see = strings.TrimSuffix(see, "\n") + `, \fBmxcert.yaml(5)\fP, \fBmxcert(7)\fP, \fBmxcert.service(8)\fP`
	return hyphens(text + ".SH SEE ALSO\n" + see + "\n"), nil
}

// globalOptions names the options that every command has; mxcert(1) explains them.
func globalOptions(cmd *cobra.Command) string {
	var names []string
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { names = append(names, `\fB--`+f.Name+`\fP`) })
	return ".SH GLOBAL OPTIONS\n" + strings.Join(names, ", ") + ": see\n\\fBmxcert(1)\\fP.\n\n"
}

// prepare gives a command the text that its page should have.
func prepare(cmd *cobra.Command) {
	cmd.DisableAutoGenTag, cmd.DisableFlagsInUseLine = true, true
	name, arguments, _ := strings.Cut(cmd.Use, " ")
	if cmd.HasAvailableSubCommands() {
		arguments = "COMMAND"
	}
	cmd.Use = strings.TrimSpace(name + " [OPTION…] " + arguments)
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long = markdown(cmd.Long)
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Hidden = true
	cmd.Flags().VisitAll(prepareFlag)
	cmd.PersistentFlags().VisitAll(prepareFlag)
}

// prepareFlag shows the name of the value in the place of the default. The default follows after the meaning.
func prepareFlag(f *pflag.Flag) {
	if _, done := f.Value.(word); done {
		return
	}
	value, meaning := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
	default:
		meaning += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	f.Usage, f.DefValue, f.NoOptDefVal, f.Value = escape(meaning), value, "", word{f.Value}
}

// word is a value that cobra/doc writes without quotes.
type word struct{ pflag.Value }

// Type implements pflag.Value.
func (word) Type() string { return "" }

// markdown puts the indented parts of a help text into fences, and escapes the rest.
func markdown(text string) string {
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, " ") || strings.HasPrefix(p, "\t") {
			paragraphs[i] = "```\n" + p + "\n```"
		} else {
			paragraphs[i] = escape(p)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// escape keeps Markdown from interpreting characters of a help text.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "<", `\<`, "[", `\[`).Replace(text)
}

// rootSections appear only in mxcert(1).
const rootSections = `.SH EXIT STATUS
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
verify, doctor or check found a fault; tlsa check or status, one of the TLSA records; fleet status, a host that does not serve the newest
certificate; fleet join, a reason not to take part.
.TP
.B 4
Some certificates failed, others did not.
.TP
.B 5
Issued, but not in service: the deployment failed or was reverted.
.TP
.B 10
With \-\-detailed\-exitcode: converged and changed.
.TP
.B 75
Temporary, try again later: the CA or a name server cannot be reached, a limit is reached, or the command was interrupted
while it did the work itself. From status: no certificate has been issued yet. From verify: nothing could be judged from here.
From fleet commands, and for an order that is due: the store of the fleet cannot be used.
.TP
.B 77
No permission.
.TP
.B 78
Bad configuration. (check, whose job is to look for that, exits with 3.)
.TP
.B 130
Interrupted while a daemon did the work. The daemon finishes what it has started.
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
Your programs, in pre.d, deploy.d, post.d and fail.d: see
.BR mxcert\-hooks (7).
.TP
.I /var/lib/mxcert
Accounts, keys, certificates, and unfinished work.
`

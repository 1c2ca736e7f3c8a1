package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/reported"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// tlsrptTime limits the command: ten thousand reports take seconds.
const tlsrptTime = 10 * time.Minute

func (a *app) tlsrptCommand() *cobra.Command {
	var since, into string
	cmd := &cobra.Command{
		Use: "tlsrpt [FILE|DIRECTORY|-]…", Short: "What senders report about TLS (RFC 8460)", Args: cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault), // files
		Long: `Reads the reports that senders of mail send to the address in the TXT record _smtp._tls of a domain: JSON, gzip, the mail that
brings them, an mbox, or a directory of these, such as a maildir. - reads standard input. Without an argument it reads
tlsrpt.directory of the configuration.

It sums the failures up by host, sender and result type, and compares them with what this host had in service at that time. Anybody can
forge a report; your mail server verifies DKIM, mxcert does not. Exit codes: 0 no failure that holds, 1 an input cannot be read,
3 senders report failures that hold.

With --into it stores the report on standard input in a directory, for a pipe of the mail server, see mxcert-tlsrpt(7). A mail without a
report is dropped.`,
		RunE: func(cmd *cobra.Command, inputs []string) error {
			if into != "" {
				return storeReport(cmd.InOrStdin(), cmd.ErrOrStderr(), inputs, into)
			}
			after, err := sinceArgument(since, time.Now())
			if err != nil {
				return err
			}
			return a.tlsrpt(cmd, inputs, after)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "leave out reports about earlier times than this `TIME`: 2026-03-01, 2026-03-01T12:00:00Z, -30d or -12h")
	cmd.Flags().StringVar(&into, "into", "", "store the report on standard input in this `DIRECTORY`")
	return cmd
}

// sinceArgument reads --since; zero if it is not given.
func sinceArgument(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := timeArgument(text, true, now); err == nil {
		return t, nil
	}
	return time.Time{}, usageHint("tlsrpt --since -30d", "--since %s is not a time: write a date (2026-03-01), a time of RFC 3339 (2026-03-01T12:00:00Z), or a span before now (-30d, -12h)",
		finding.Quoted(text, finding.MostQuoted))
}

// tlsrpt reads all inputs, compares, and prints.
func (a *app) tlsrpt(cmd *cobra.Command, inputs []string, since time.Time) error {
	ctx, cancel := a.within(cmd.Context(), tlsrptTime)
	defer cancel()
	if a.configFile == configs.Stdin && slices.Contains(inputs, "-") {
		return report.Usage("standard input is either the configuration (-c -) or a report (-)")
	}
	host, why := a.hostIfKnown(cmd.Flags().Changed("config"))
	if len(inputs) == 0 {
		switch {
		case host == nil:
			return report.Usage("name a FILE, a DIRECTORY, or - for standard input: without one, mxcert tlsrpt reads tlsrpt.directory of the configuration, and %s", why)
		case host.ReportDirectory == "":
			return report.Usage("name a FILE, a DIRECTORY, or - for standard input: the configuration does not set tlsrpt.directory")
		}
		inputs = []string{host.ReportDirectory}
	}
	read := &reportReader{ctx: ctx, stdin: cmd.InOrStdin()}
	for _, input := range inputs { // before the process becomes the owner of the state, who may read less
		if err := read.input(input); err != nil && len(inputs) == 1 {
			return err
		}
	}
	var store *state.Book
	if host != nil {
		var err error
		if store, err = view(host.State); err != nil {
			host, why = nil, "the state cannot be read: "+err.Error()
		}
	}
	r := reported.Compare(read.reports, host, store, since)
	r.Why, r.Others = why, read.others
	r.Unreadable = append(r.Unreadable, read.unreadable...)
	code := report.CodeOK
	switch {
	case read.failed || len(r.Unreadable) > 0 && len(read.reports) == 0:
		code = report.CodeFailed
	case !r.OK:
		code = report.CodeFault
	}
	return a.finish(answer{document: r, code: code, print: func(out sheet) { printReported(out, r) }})
}

// hostIfKnown returns what the configuration wants. Reports can be read without one, so if there is none, it says why. If the user has named
// it, it must be good.
func (a *app) hostIfKnown(named bool) (*wanted.Host, string) {
	config, err := a.load()
	if err == nil {
		host, _ := wanted.From(config) // no chain is checked here
		return host, ""
	}
	if named {
		a.complain(err)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, "there is no configuration"
	}
	return nil, "the configuration cannot be used"
}

// mostRead limits the failures in all reports together, so that forged reports cannot fill the memory.
const mostRead = 200_000

// reportReader collects the reports of several inputs.
type reportReader struct {
	ctx        context.Context //nolint:containedctx // of the one command
	stdin      io.Reader
	reports    []tlsrpt.Report
	failures   int
	others     int // files of directories that have no report
	unreadable []report.Unreadable
	failed     bool // an input that the user has named cannot be read
}

// input reads one input that the user has named. Its error is kept, too.
func (r *reportReader) input(name string) error {
	err := r.read(name)
	if err != nil {
		err = fmt.Errorf("%s: %w", finding.Quote(name, finding.MostQuoted), err)
		r.failed = true
		r.unreadable = append(r.unreadable, report.Unreadable{File: name, Message: report.OneLine(err.Error())})
	}
	return err
}

func (r *reportReader) read(name string) error {
	if name == "-" {
		list, err := tlsrpt.Read(r.stdin)
		return errors.Join(r.add(list), err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return withoutPath(err)
	}
	if info.IsDir() {
		return r.directory(name)
	}
	file, err := os.Open(name)
	if err != nil {
		return withoutPath(err)
	}
	defer file.Close()
	list, err := tlsrpt.Read(file)
	return errors.Join(r.add(list), err)
}

// withoutPath is the reason of an error about a path that is said already.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

func (r *reportReader) add(list []tlsrpt.Report) error {
	for _, one := range list {
		for _, p := range one.Policies {
			r.failures += 1 + len(p.Failures)
		}
		if r.failures > mostRead {
			return errors.New("these are more failures than mxcert sums up: read fewer files at once")
		}
		r.reports = append(r.reports, one)
	}
	return nil
}

// directory reads all files of a directory.
func (r *reportReader) directory(name string) error {
	var after time.Time
	for {
		var full error
		rest, err := tlsrpt.Directory(r.ctx, name, after, func(f tlsrpt.File) {
			after = f.Changed
			full = errors.Join(full, r.add(f.Reports))
			switch {
			case errors.Is(f.Err, tlsrpt.ErrNone):
				r.others++
			case f.Err != nil && len(r.unreadable) < mostRead:
				r.unreadable = append(r.unreadable, report.Unreadable{File: f.Path, Message: finding.Quote(withoutPath(f.Err).Error(), finding.MostQuoted)})
			}
		})
		if err != nil || full != nil || rest == 0 {
			return errors.Join(withoutPath(err), full)
		}
	}
}

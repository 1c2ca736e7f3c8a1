package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
)

// reportFlags say what to write, and where.
type reportFlags struct {
	html, ics string
	verify    bool
}

const reportHelp = `Writes a page, or a calendar, of all certificates: how each is, what each endpoint shows, what senders meet, the TLSA records, what is
waited for, the next dates, and what happened last. With notify in the configuration, the page also shows which alarms are open: since when,
when people were told, and the next step.

The page is one file without scripts that loads nothing else. The daemon writes it too, after each pass, if report.html of the
configuration names a file. The calendar (iCalendar, RFC 5545) has the dates on which certificates expire, with a reminder, and are renewed,
and those of TLSA records.

The file is replaced at once. A new one gets mode 0640; a replaced one keeps its mode. With - as FILE the result goes to standard output.

Exit code 0 if the result was written, however the certificates are: mxcert status is the command whose exit code tells.`

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use: "report --html FILE | --ics FILE", Short: "A page, or a calendar, of everything", Args: cobra.NoArgs, Long: reportHelp,
		Example: "  mxcert report --html /var/www/mxcert/index.html\n  mxcert report --html page.html --verify\n  mxcert report --ics certificates.ics",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(a.json); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context(), verifyTime)
			defer cancel()
			if f.file() != stdoutFile && os.Geteuid() == 0 {
				return a.reportByOwner(ctx, f)
			}
			return a.report(ctx, f)
		},
	}
	cmd.Flags().StringVar(&f.html, "html", "", "write a page to this `FILE`")
	cmd.Flags().StringVar(&f.ics, "ics", "", "write a calendar to this `FILE`")
	cmd.Flags().BoolVar(&f.verify, "verify", false, "also shake hands with each endpoint as every kind of sender does, as mxcert verify; takes longer")
	return cmd
}

// stdoutFile is the FILE that means standard output.
const stdoutFile = "-"

// check finds out whether the flags go together.
func (f reportFlags) check(json bool) error {
	switch {
	case f.html == "" && f.ics == "":
		return report.Usage("mxcert report needs --html FILE (a page) or --ics FILE (a calendar); - writes to standard output")
	case f.html != "" && f.ics != "":
		return report.Usage("--html and --ics write different files: call mxcert report once for each")
	case f.ics != "" && f.verify:
		return report.Usage("--verify is for --html: a calendar does not show what senders decide")
	case json && f.file() == stdoutFile:
		return report.Usage("--json prints a document about the file on standard output: name a FILE")
	}
	return nil
}

func (f reportFlags) file() string {
	if f.html != "" {
		return f.html
	}
	return f.ics
}

// fill writes the page or the calendar.
func (f reportFlags) fill(s page.Sight) func(io.Writer) error {
	return func(w io.Writer) error {
		if f.html != "" {
			return page.HTML(w, s)
		}
		return page.Calendar(w, s)
	}
}

// report writes the page or the calendar with what this process sees.
func (a *app) report(ctx context.Context, f reportFlags) error {
	s, err := a.sight(ctx, f.verify)
	if err != nil {
		return err
	}
	if f.file() == stdoutFile {
		var text bytes.Buffer
		if err := f.fill(s)(&text); err != nil {
			return err
		}
		return a.stdout.raw(text.Bytes()) // every text in it is clean
	}
	return a.writeReport(f, f.fill(s))
}

// writeReport replaces the file.
func (a *app) writeReport(f reportFlags, fill func(io.Writer) error) error {
	path, err := filepath.Abs(f.file())
	if err != nil {
		return err
	}
	if err := page.Write(path, fill); err != nil {
		return err
	}
	return a.finish(answer{document: writtenReport{OK: true, File: path}, print: func(out sheet) { fmt.Fprintf(out, "%s: written\n", path) }})
}

// writtenReport is the document of `report --json`.
type writtenReport struct {
	OK   bool   `json:"ok"`
	File string `json:"file"` // its absolute path
}

// sight looks at everything, as `mxcert status` does.
func (a *app) sight(ctx context.Context, verify bool) (page.Sight, error) {
	s := page.Sight{Host: page.HostName(), Release: a.version, Maker: page.ByCommand}
	files := configs.Read(a.configFile) // before this process may become a user who cannot read them
	seen, err := a.look(ctx, nil, files)
	if err != nil {
		return s, err
	}
	if seen.configErr != nil {
		a.complain(seen.configErr)
		s.Alarms = append(s.Alarms, page.BadConfiguration(seen.configErr.Error(), time.Time{}))
	}
	s.At, s.Told = time.Now(), page.Told{Alarms: seen.Alarms, Undelivered: seen.Undelivered}
	for _, c := range seen.Certificates {
		s.Certificates = append(s.Certificates, page.Certificate{Report: c, Looked: s.At, Events: page.Events(seen.store, c.Name, page.EventsOfEach(len(seen.Certificates)))})
	}
	if verify {
		_, hosts := lookAtAllOwn(ctx, seen.store, seen.wants, verifyTask{})
		for i := range s.Certificates {
			s.Certificates[i].Seen = judged(hosts[i])
		}
	}
	s.Finish()
	return s, nil
}

// judged takes what each kind of sender decides out of reports.
func judged(hosts []hostReport) (list []report.SenderHost) {
	for _, h := range hosts {
		one := report.SenderHost{MX: h.MX, Domain: h.Domain, Address: h.Address, Port: h.Port, Verdicts: map[string]report.SenderVerdict{}}
		for kind, v := range h.Verdicts {
			one.Verdicts[string(kind)] = report.SenderVerdict{Result: string(v.Result), Action: string(v.Action), Type: v.Type, Reason: v.Reason}
		}
		list = append(list, one)
	}
	return list
}

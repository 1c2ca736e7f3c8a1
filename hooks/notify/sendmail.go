package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"mxcert/hooks/run"
)

// sendmailPath is where every mail server of a Unix host has its program for local mail (Filesystem Hierarchy Standard).
const sendmailPath = "/usr/sbin/sendmail"

// exTempFail is the exit status of sendmail if the same mail may be sent later (sysexits.h).
const exTempFail = 75

// sendmailAfter is how long a process that sendmail leaves behind may take to get out of its group. Exim delivers in one: killed there, the
// mail would wait for the next run of the queue, which is up to half an hour later.
const sendmailAfter = 20 * time.Second

// bySendmail hands a mail to the sendmail of this host. The recipients are in its headers, which only compose writes. Its own line ends are
// LF, as programs of a Unix host have them.
func (m *mailer) bySendmail(ctx context.Context, text []byte) error {
	if err := CheckProgram(m.Sendmail); err != nil {
		return err
	}
	output, err := run.Command{Program: m.Sendmail, Args: []string{"-t", "-i"}, Dir: "/", Input: bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")),
		Timeout: programTime, Grace: programGrace, After: sendmailAfter, Join: true}.Run(ctx)
	if err == nil {
		return nil
	}
	e, _ := errors.AsType[*Error](failed(m.Sendmail, output, err, "look at the mail server's log; a relay elsewhere (via: {smtp: …}) works also when this mail server does not"))
	if code, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok && code.ExitCode() != exTempFail && code.ExitCode() > 0 {
		e.message += fmt.Sprintf(" (exit status %d)", code.ExitCode())
	}
	return e
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wire"
)

// ErrNone says that no daemon runs. The command then does the work itself, under the same locks.
var ErrNone = errors.New("no daemon runs")

// Ask has a running daemon make passes, and returns its report. It calls say with the progress of each certificate. The error is ErrNone if
// no daemon works on the store.
func Ask(ctx context.Context, store *state.Book, order Order, say func(certificate, stage, message string)) (*report.Report, error) {
	last, err := ask(ctx, store, order, say)
	if err == nil && last.Report == nil {
		err = errors.New("the daemon's answer has no report")
	}
	return last.Report, err
}

// ask sends an order to a running daemon, and returns the last line of the answer.
func ask(ctx context.Context, store *state.Book, order Order, say func(certificate, stage, message string)) (last line, err error) {
	running := Running(store)
	if running == nil || running.Socket == "" {
		return last, ErrNone
	}
	conn, err := wire.Dial(ctx, running.Socket)
	if err != nil {
		return last, ErrNone
	}
	defer conn.Close()
	if err := conn.Admit(0, os.Geteuid(), ownerOf(store.Path())); err != nil {
		return last, fmt.Errorf("the socket %s does not belong to the daemon: %w", running.Socket, err)
	}
	if err := conn.Write(ctx, order); err != nil {
		return last, ErrNone
	}
	for {
		var l line
		if err := conn.Read(ctx, &l); err != nil {
			return last, interrupted(ctx, order, err)
		}
		switch {
		case l.Refuse != "":
			return last, errors.New(l.Refuse)
		case l.Report != nil, l.Seen != nil, l.Sent != nil:
			return l, nil
		}
		say(l.Certificate, l.Stage, l.Message)
	}
}

// ownerOf returns the user that a file belongs to, or -1 if that is unknown. For the state directory this is the service's user.
func ownerOf(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(owner.Uid)
}

// interrupted returns why there is no report from the daemon.
func interrupted(ctx context.Context, order Order, err error) error {
	switch {
	case ctx.Err() != nil && order.Look:
		return ctx.Err()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &report.Exit{Code: report.CodeTemporary, Err: &unwatched{why: "the time of the command is over", kind: "timeout"}}
	case ctx.Err() != nil:
		return &report.Exit{Code: report.CodeInterrupted, Err: &unwatched{why: "interrupted", kind: "interrupted"}}
	case errors.Is(err, wire.ErrMalformed):
		return fmt.Errorf("the daemon's answer cannot be understood: %w", err)
	}
	return &report.Exit{Code: report.CodeTemporary, Err: errors.New("the daemon ended before the work was done; the next pass resumes it (see why: journalctl -u mxcert)")}
}

// unwatched says that a command has left a daemon alone with its work.
type unwatched struct{ why, kind string }

func (e *unwatched) Error() string { return e.why + "; the daemon finishes what it has started" }

// Kind is interrupted or timeout.
func (e *unwatched) Kind() string { return e.kind }

// Hint says where the result will be.
func (e *unwatched) Hint() string {
	return "mxcert status and journalctl -u mxcert show how it ends"
}

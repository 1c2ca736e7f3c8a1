package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/configs"
)

// errNoDaemon means that no daemon can be asked: the command does the work itself, under the same locks.
var errNoDaemon = errors.New("no daemon runs")

// askDaemon has a running daemon make the passes, and shows its progress. The error is errNoDaemon if there is none to ask.
func (a *app) askDaemon(ctx context.Context, config *configs.Config, order controlOrder) (*report, error) {
	store, err := viewStore(config.State)
	if err != nil {
		return nil, errNoDaemon // whoever works with the store will report what is wrong with it
	}
	running := readDaemon(store)
	if running == nil || running.Socket == "" {
		return nil, errNoDaemon
	}
	conn, err := wire.Dial(ctx, running.Socket)
	if err != nil {
		return nil, errNoDaemon
	}
	defer conn.Close()
	if err := conn.Admit(0, os.Geteuid(), ownerOf(config.State)); err != nil {
		return nil, fmt.Errorf("%s is not the daemon's: %w", running.Socket, err)
	}
	if err := conn.Write(ctx, order); err != nil {
		return nil, errNoDaemon
	}
	narrator := a.narrate()
	defer narrator.end()
	for {
		var line controlLine
		if err := conn.Read(ctx, &line); err != nil {
			return nil, brokenOff(ctx, err)
		}
		switch {
		case line.Refuse != "":
			return nil, errors.New(line.Refuse)
		case line.Report != nil:
			for i, code := range line.Codes[:min(len(line.Codes), len(line.Report.Certificates))] {
				line.Report.Certificates[i].code = code
			}
			return line.Report, nil
		}
		narrator.speak(line.Certificate)(line.Stage, line.Message)
	}
}

// ownerOf is the user that a file belongs to: the service's, of its state directory; -1 if that is unknown.
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

// brokenOff is why there is no report from the daemon.
func brokenOff(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, wire.ErrMalformed):
		return fmt.Errorf("the daemon's answer cannot be understood: %w", err)
	}
	return &exitError{code: exitTemporary, err: errors.New("the daemon ended before the work was done; the next pass resumes it (see why: journalctl -u mxcert)")}
}

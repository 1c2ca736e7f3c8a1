package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

// maxControlLine bounds a line of the daemon's answer: the report of some thousand certificates.
const maxControlLine = 16 << 20

// errNoDaemon says that no daemon can be asked: the command does the work itself, under the same locks.
var errNoDaemon = errors.New("no daemon runs")

// askDaemon has a running daemon make the passes, and shows its progress. errNoDaemon where none can be asked.
func (a *app) askDaemon(ctx context.Context, config *configs.Config, order controlOrder) (*report.Report, error) {
	store, err := viewStore(config.State)
	if err != nil {
		return nil, errNoDaemon // what is wrong with it is said by who tries to work with it
	}
	running := readDaemon(store)
	if running == nil || running.Socket == "" {
		return nil, errNoDaemon
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", running.Socket)
	if err != nil {
		return nil, errNoDaemon
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(text, '\n')); err != nil {
		return nil, errNoDaemon
	}
	narrator := a.narrate()
	defer narrator.end()
	scanner := bufio.NewScanner(conn)
	scanner.Buffer(nil, maxControlLine)
	for scanner.Scan() {
		var line controlLine
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("the daemon's answer cannot be understood: %w", err)
		}
		switch {
		case line.Refuse != "":
			return nil, errors.New(line.Refuse)
		case line.Report != nil:
			return line.Report, nil
		}
		narrator.speak(line.Certificate)(line.Stage, line.Message)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, &report.Exit{Code: report.CodeTemporary, Err: errors.New("the daemon ended before the work was done; the next pass goes on with it (journalctl -u mxcert tells why)")}
}

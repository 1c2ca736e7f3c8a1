// Command mxcert gives a mail host a certificate that senders accept, puts it where the mail server reads it, makes the
// server use it, and proves on the wire that it does. See internal/cli for its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert/internal/cli"
)

// release is set by the linker (-X main.release=1.2.3) in packages; a build from a checkout says so.
var release = "0.0.0-dev" //nolint:gochecknoglobals // the linker can set nothing else

func main() {
	syscall.Umask(0o077)
	// No core dump and no debugger of another process sees the keys (prctl(2)). A kernel that refuses is no reason to stop.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	signal.Ignore(syscall.SIGHUP) // a lost terminal does not end a renewal; the daemon listens to it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, release, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

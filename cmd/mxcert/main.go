// Command mxcert gives a mail host a certificate that senders accept. It puts the certificate where the mail server reads it, makes the
// server use it, and proves in a TLS handshake that the server shows it. Package internal/cli has the commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"mxcert/cmd/mxcert/internal/cli"
)

// release is set by the linker (-X main.release=1.2.3) in packages; this default marks a build from a checkout.
var release = "0.0.0-dev" //nolint:gochecknoglobals // the linker can set nothing else

func main() {
	if os.Getpid() == 1 {
		os.Exit(beFirst())
	}
	syscall.Umask(0o077)
	// This keeps core dumps and debuggers away from the keys (prctl(2)). If the kernel refuses, mxcert continues without it.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	signal.Ignore(syscall.SIGHUP) // a lost terminal does not end a renewal; the daemon handles the signal
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, release, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

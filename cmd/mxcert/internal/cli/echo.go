package cli

import (
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// withoutEcho switches the echo of a terminal off, and returns the state that term.Restore brings back. term.ReadPassword does the same, but
// cannot be interrupted.
func withoutEcho(fd int) (*term.State, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	settings.Lflag &^= unix.ECHO
	return before, unix.IoctlSetTermios(fd, unix.TCSETS, settings)
}

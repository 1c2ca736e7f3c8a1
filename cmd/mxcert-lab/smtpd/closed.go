package smtpd

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// shareable lets keepClosed take the address of a listener while it still listens.
func shareable(_, _ string, conn syscall.RawConn) (err error) {
	if controlErr := conn.Control(func(fd uintptr) { err = shareAddress(int(fd)) }); controlErr != nil {
		return controlErr
	}
	return err
}

func shareAddress(fd int) error {
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// keepClosed takes the address of a shareable listener that is about to be closed, without listening: the address then refuses
// connections, and no other program of this machine gets the port. It is free again when the file is closed or collected. A server may
// listen there meanwhile.
func keepClosed(listened net.Addr) (*os.File, error) {
	address, err := netip.ParseAddrPort(listened.String())
	if err != nil {
		return nil, err
	}
	var at unix.Sockaddr = &unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
	family := unix.AF_INET6
	if ip := address.Addr().Unmap(); ip.Is4() {
		at, family = &unix.SockaddrInet4{Port: int(address.Port()), Addr: ip.As4()}, unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "closed "+listened.String())
	if err := shareAddress(fd); err != nil {
		_ = file.Close()
		return nil, err
	}
	if err := unix.Bind(fd, at); err != nil {
		_ = file.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return file, nil
}

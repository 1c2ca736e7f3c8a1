// Package port gives tests ports that nobody else takes: for servers that must be told their port, and for addresses at which nobody
// may listen. A port that the kernel picked and that was closed again is no such port: the kernel may give it to the next socket.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// lowest is the first port that is given; registered services that run on many hosts have lower ones.
const lowest = 15000

// Reserve returns a port (TCP and UDP, on all local addresses) that is free, and belongs to this test until it ends. It is below the
// range from which the kernel takes ports (ip_local_port_range), and no other caller on this machine gets it meanwhile.
func Reserve(t testing.TB) int {
	t.Helper()
	highest, err := kernels()
	if err != nil {
		t.Fatal(err)
	}
	var all error
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		claim, err := claim(port)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		t.Cleanup(func() { _ = claim.Close() })
		return port
	}
	t.Fatalf("no port between %d and %d is free: %v", lowest, highest, all)
	return 0
}

// Address is a reserved port on 127.0.0.1, as "address:port".
func Address(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Reserve(t)))
}

// kernels returns the first port that the kernel gives to sockets that ask for none.
func kernels() (int, error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	port, err := strconv.Atoi(first)
	if err != nil || port <= lowest {
		return 0, fmt.Errorf("%s says %q: there are no ports between %d and the kernel's", file, text, lowest)
	}
	return port, nil
}

// claim takes a port. An abstract socket bears its number: there is one of a name in each network namespace, and it goes with its process.
func claim(port int) (net.Listener, error) {
	claim, err := net.Listen("unix", fmt.Sprintf("@mxcert-test-port-%d", port)) //nolint:noctx // it does not wait
	if err != nil {
		return nil, err
	}
	if err := free(port); err != nil {
		_ = claim.Close()
		return nil, err
	}
	return claim, nil
}

// free says whether nobody else has the port. Without an address, the sockets of all addresses are in the way.
func free(port int) error {
	address := fmt.Sprintf(":%d", port)
	tcp, err := net.Listen("tcp", address) //nolint:noctx // it does not wait
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address) //nolint:noctx // it does not wait
	if err != nil {
		_ = tcp.Close()
		return err
	}
	return errors.Join(tcp.Close(), udp.Close())
}

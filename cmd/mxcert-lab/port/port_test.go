package port

import (
	"net"
	"testing"
)

// A reserved port can be used, and no other caller gets it before the test has ended.
func TestReserve(t *testing.T) {
	t.Parallel()
	kernel, err := kernels()
	if err != nil {
		t.Fatal(err)
	}
	var reserved int
	t.Run("while the test runs", func(t *testing.T) {
		seen := map[int]bool{}
		for range 100 {
			reserved = Reserve(t)
			if seen[reserved] || reserved < lowest || reserved >= kernel {
				t.Errorf("%d, which is given twice, or not from %d to %d", reserved, lowest, kernel)
			}
			seen[reserved] = true
		}
		if other, err := claim(reserved); err == nil {
			_ = other.Close()
			t.Error("somebody else gets it, too")
		}
		if err := free(reserved); err != nil {
			t.Errorf("it cannot be used: %v", err)
		}
	})
	again, err := claim(reserved)
	if err != nil {
		t.Fatalf("after the test: %v", err)
	}
	_ = again.Close()
}

// What somebody uses is not given.
func TestUsedPorts(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	for _, port := range []int{tcp.Addr().(*net.TCPAddr).Port, udp.LocalAddr().(*net.UDPAddr).Port} {
		if got, err := claim(port); err == nil {
			_ = got.Close()
			t.Errorf("%d is given", port)
		}
	}
}

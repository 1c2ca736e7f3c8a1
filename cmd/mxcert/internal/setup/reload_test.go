package setup

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/port"
)

// A reload closes Exim's port for a moment: whoever connects after reload has returned is let in.
func TestReloadAwaitsThePort(t *testing.T) {
	d := newDebian(t, "")
	listener, err := net.Listen("tcp", port.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	opened := make(chan net.Listener, 1)
	// The signal has its effect after the job is done, and the port comes back after that.
	go func() {
		for text := []byte(nil); len(text) == 0; text, _ = os.ReadFile(filepath.Join(d.dir, "calls")) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(settle / 5)
		_ = listener.Close()
		time.AfterFunc(settle, func() {
			again, err := net.Listen("tcp", address)
			if err != nil {
				t.Error(err)
			}
			opened <- again
		})
	}()
	done, err := reload(t.Context(), []string{address, "127.0.0.1:1"}) // the second was never open
	if !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if !isOpen(t.Context(), address) {
		t.Error("the port is closed")
	}
	if again := <-opened; again != nil {
		_ = again.Close()
	}
	if got := d.changes(); len(got) != 1 || got[0] != "systemctl reload exim4.service" {
		t.Errorf("calls %q", got)
	}
}

// An Exim that listens nowhere near is not waited for.
func TestReloadWithoutPorts(t *testing.T) {
	d := newDebian(t, "")
	took := time.Hour
	for range 20 { // one that is faster shows that nothing is waited for
		began := time.Now()
		if done, err := reload(t.Context(), []string{"127.0.0.1:1"}); !done || err != nil {
			t.Fatalf("%v, %v", done, err)
		}
		if took = min(took, time.Since(began)); took < settle {
			break
		}
	}
	if took >= settle {
		t.Errorf("it took %v", took)
	}
	if read(t, filepath.Join(d.dir, "calls")) == "" {
		t.Error("nothing was reloaded")
	}
}

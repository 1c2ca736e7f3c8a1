package world_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

func TestTwoHostsAndACable(t *testing.T) {
	mailhost.Require(t)
	w := world.Start(t, "")
	must := func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// Each reaches what the other has, over IPv4 and IPv6, and also an address that is added later.
	if err := w.Receiver.AddAddress("203.0.113.7/24"); err != nil {
		t.Fatal(err)
	}
	if err := w.Receiver.Write("/srv/page", "hello", 0o644); err != nil {
		t.Fatal(err)
	}
	server, err := w.Receiver.Start("python3", "-m", "http.server", "--bind", "::", "--directory", "/srv", "80")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Receiver.AwaitPort(t.Context(), "203.0.113.7:80"); err != nil {
		t.Fatal(err, server.Output())
	}
	for _, host := range []string{world.ReceiverIPv4, "[" + world.ReceiverIPv6 + "]", "203.0.113.7"} {
		page := must(w.Sender.Must(t.Context(), "python3", "-c", "import urllib.request as u; print(u.urlopen('http://"+host+"/page').read())"))
		if !strings.Contains(page, "hello") {
			t.Errorf("%s: %q", host, page)
		}
	}
	// A socket of this process can belong to the sender.
	err = w.Sender.Do(func() {
		c, err := net.DialTimeout("tcp", world.ReceiverIPv4+":80", time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if from := c.LocalAddr().String(); !strings.HasPrefix(from, world.SenderIPv4+":") {
			t.Errorf("connected from %s", from)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := net.InterfaceByName("net0"); err == nil {
		t.Error("the machine has an end of the cable")
	}
	// The programs are of the root tree: both mail servers, in their trees.
	must(w.Sender.Must(t.Context(), "sh", "-ec", "type posttls-finger delv unbound knotd gnutls-cli danetool swaks dnsmasq"))
	if v := must(w.Sender.In(world.Exim).Must(t.Context(), "exim4", "-bV")); !strings.Contains(v, "GnuTLS") {
		t.Errorf("Exim: %s", v)
	}
	if conf := must(w.Sender.Read("/etc/resolv.conf")); conf != "nameserver 127.0.0.1\n" {
		t.Errorf("resolv.conf: %q", conf)
	}
	// The end of a process is seen.
	server.Stop()
	if !server.Ended() {
		t.Error("the server runs on")
	}
}

// A host that has ended leaves no process and no mount.
func TestTheEndOfAWorld(t *testing.T) {
	mailhost.Require(t)
	var pid string
	t.Run("world", func(t *testing.T) {
		w := world.Start(t, "")
		if _, err := w.Receiver.Start("sleep", "1000"); err != nil {
			t.Fatal(err)
		}
		pid = w.Receiver.Root
		if _, err := os.Stat(pid); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(pid); err == nil {
		t.Errorf("%s is still there", pid)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), "mxcert-e2e/world") {
		t.Errorf("%v, mounts of the machine:\n%s", err, mounts)
	}
}

// A world also ends if the test is killed.
func TestTheEndOfAKilledTest(t *testing.T) {
	mailhost.Require(t)
	if os.Getenv("MXCERT_WORLD_TO_KILL") != "" {
		w := world.Start(t, "")
		if _, err := w.Receiver.Start("sleep", "1000"); err != nil {
			t.Fatal(err)
		}
		fmt.Println("root", w.Receiver.Root)
		time.Sleep(time.Minute)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestTheEndOfAKilledTest$")
	child.Env = append(os.Environ(), "MXCERT_WORLD_TO_KILL=1")
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var root string
	for lines := bufio.NewScanner(out); root == "" && lines.Scan(); {
		root, _ = strings.CutPrefix(lines.Text(), "root ")
		if !strings.HasPrefix(root, "/proc/") {
			root = ""
		}
	}
	if _, err := os.Stat(root); root == "" || err != nil {
		t.Fatalf("the other test has no world: %q, %v", root, err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(root); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", root)
		}
	}
}

package daemon

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// resident starts the program with a host's configuration, has it renew three times, and returns its resident memory at rest in KiB: all, and
// the anonymous part.
func (h *host) resident(t *testing.T, program string) (all, anonymous int) {
	var log bytes.Buffer
	cmd := exec.Command(program, "run", "--config", h.config)
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	h.check(cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	eventually(t, "the first certificate", func() bool { return h.look().Stage == report.Served })
	for range 3 {
		h.asked(report.CodeOK, Order{Force: true})
	}
	if strings.Contains(h.text(), "mail_domains") {
		eventually(t, "a look as a sender", func() bool { return h.look().Senders != nil })
	}
	time.Sleep(untilIdle + 3*time.Second)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	h.check(err)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch words[0] {
		case "VmRSS:":
			all, _ = strconv.Atoi(words[1])
		case "RssAnon:":
			anonymous, _ = strconv.Atoi(words[1])
		}
	}
	return all, anonymous
}

// The look as a sender adds at most a tenth to the resident memory of the daemon at rest.
func TestMemoryOfTheLook(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can listen on port 25")
	}
	program := filepath.Join(t.TempDir(), "mxcert")
	if out, err := exec.Command("go", "build", "-o", program, "mxcert/cmd/mxcert").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var all, anonymous [2]int // without and with the look
	t.Run("at rest", func(t *testing.T) {
		for i, name := range []string{"without", "with"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var options lab.ConfigOptions
				listen := ""
				if name == "with" {
					listen = fmt.Sprintf("127.25.%d.%d:25", os.Getpid()>>8&0xff, os.Getpid()&0xff)
					options.MailDomains = []string{"example.org", "example.com"}
				}
				h := newHost(t, lab.Options{SMTPListen: listen}, options)
				if host, _, found := strings.Cut(listen, ":"); found {
					h.check(h.World.Replace("mx.example.org. A " + host))
				}
				all[i], anonymous[i] = h.resident(t, program)
			})
		}
	})
	fmt.Printf("figure: resident memory at rest: %d KiB (anonymous %d) without the look as a sender, %d KiB (anonymous %d) with it: %+.1f %%\n",
		all[0], anonymous[0], all[1], anonymous[1], 100*float64(all[1]-all[0])/float64(all[0]))
	if float64(all[1]) > 1.1*float64(all[0]) {
		t.Errorf("the look adds %d KiB to %d KiB", all[1]-all[0], all[0])
	}
}

package helper

import (
	"context"
	"os"
	"path"
	"strings"
	"time"
)

const (
	// deliveryTime limits how long a helper stays for a delivery: Exim gives up a server that does not answer after five minutes.
	deliveryTime = 10 * time.Minute
	// mostRest is the longest pause between two looks.
	mostRest = time.Second
)

// awaitDelivery waits until no other process is left in the unit of this helper. Exim's sendmail ends when it has the mail in its queue, and
// delivers it in the background. systemd kills what a unit leaves behind: without this helper the mail would wait for the next run of the queue.
func awaitDelivery(ctx context.Context) {
	awaitAlone(ctx, ownUnit("/proc/self/cgroup", "/sys/fs/cgroup"))
}

// ownUnit returns the file that lists the processes of the unit that this helper is, or "" if it is none (cgroups(7)).
func ownUnit(list, root string) string {
	text, _ := os.ReadFile(list) // "" is in no unit
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "0::"); found && strings.HasPrefix(path.Base(name), "mxcert-hook@") {
			for _, hierarchy := range []string{"", "unified", "systemd"} { // the first alone; or both kinds beside each other
				file := path.Join(root, hierarchy, name, "cgroup.procs")
				if _, err := os.Stat(file); err == nil {
					return file
				}
			}
		}
	}
	return ""
}

// awaitAlone waits until a file has at most one process, but no longer than deliveryTime. It does not wait if the file cannot be read.
func awaitAlone(ctx context.Context, processes string) {
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	for rest := 10 * time.Millisecond; ; rest = min(2*rest, mostRest) {
		if text, err := os.ReadFile(processes); err != nil || len(strings.Fields(string(text))) <= 1 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

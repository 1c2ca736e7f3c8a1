package run

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// firstLook and mostPause limit the pauses between two looks at a group.
const firstLook, mostPause = 2 * time.Millisecond, 200 * time.Millisecond

// awaitGroup waits until a process group has no member but its leader, for at most d, or until stop is closed. The leader, which has ended and
// is not reaped, keeps the number of the group from being used again.
func awaitGroup(leader int, d time.Duration, stop <-chan struct{}) {
	if d <= 0 {
		return
	}
	limit := time.NewTimer(d)
	defer limit.Stop()
	for pause := firstLook; hasOthers(leader); pause = min(2*pause, mostPause) {
		select {
		case <-limit.C:
			return
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// hasOthers reports whether a process other than the leader is in its group, as far as /proc shows it.
func hasOthers(leader int) bool {
	proc, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // what could be read
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != leader && groupOf(name) == leader {
			return true
		}
	}
	return false
}

// groupOf returns the group of a process that has not ended; 0 if there is none (proc_pid_stat(5)).
func groupOf(pid string) int {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name before it may contain anything
	if len(fields) < 3 || string(fields[0]) == "Z" {
		return 0
	}
	group, _ := strconv.Atoi(string(fields[2])) // 0 if it is none
	return group
}

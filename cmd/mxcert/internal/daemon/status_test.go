package daemon

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// resident is a line of the process's proc_pid_status(5), in KiB.
func resident(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), name+":")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// Memory that passes needed is returned to the system.
func TestRest(t *testing.T) {
	rubbish := make([]byte, 64<<20)
	for i := range rubbish {
		rubbish[i] = byte(i)
	}
	own := resident(t, "RssAnon")
	if rubbish[len(rubbish)-1] == 0 {
		t.Fatal("the memory is not in use")
	}
	(&Daemon{}).rest()
	if now := resident(t, "RssAnon"); now > own-(48<<10) {
		t.Errorf("of %d KiB, %d are left", own, now)
	}
}

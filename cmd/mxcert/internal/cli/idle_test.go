package cli

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

// Memory and the program's pages go back, and the program goes on.
func TestGiveBack(t *testing.T) {
	rubbish := make([]byte, 64<<20)
	for i := range rubbish {
		rubbish[i] = byte(i)
	}
	own, program := resident(t, "RssAnon"), resident(t, "RssFile")
	if rubbish[len(rubbish)-1] == 0 {
		t.Fatal("the memory is not in use")
	}
	giveBack()
	if now := resident(t, "RssAnon"); now > own-(48<<10) {
		t.Errorf("of %d KiB, %d are left", own, now)
	}
	if now := resident(t, "RssFile"); now > program/2 {
		t.Errorf("of %d KiB of the program, %d are left", program, now)
	}
}

func TestProgramPages(t *testing.T) {
	mapping := func(head, anonymous, swap string) string {
		return head + "\nSize: 100 kB\nRss: 8 kB\nAnonymous: " + anonymous + " kB\nKSM: 0 kB\nSwap: " + swap + " kB\nVmFlags: rd mr mw me\n"
	}
	const text, constants = "00400000-00c11000 r-xp 00000000 fe:00 17 /usr/bin/mxcert", "00c11000-01480000 r--p 00811000 fe:00 17 /usr/bin/mxcert"
	for smaps, want := range map[string]int{
		mapping(text, "0", "0") + mapping(constants, "0", "0"):                                 2,
		mapping(text, "0", "0") + mapping(constants, "4", "0"):                                 1, // relocated
		mapping(text, "0", "0") + mapping(constants, "0", "4"):                                 1,
		mapping("01480000-0151d000 rw-p 01080000 fe:00 17 /usr/bin/mxcert", "0", "0"):          0,
		mapping("0151d000-03562000 rw-p 00000000 00:00 0", "0", "0"):                           0,
		mapping("7ff455120000-7ff455300000 r-xp 00000000 fe:00 18 /usr/lib/libc.so", "0", "0"): 0,
		mapping("7ffd6b5f0000-7ffd6b5f2000 r-xp 00000000 00:00 0 [vdso]", "0", "0"):            0,
		mapping("nonsense r-xp 00000000 fe:00 17 /usr/bin/mxcert", "0", "0"):                   0,
		"": 0,
	} {
		got := programPages(smaps, "/usr/bin/mxcert")
		if len(got) != want || want > 0 && got[0] != [2]uintptr{0x400000, 0x811000} {
			t.Errorf("%s\ngives %x", smaps, got)
		}
	}
}

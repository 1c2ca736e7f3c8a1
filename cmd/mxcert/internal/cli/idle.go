package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// untilIdle is how long no pass may be under way before the daemon gives back what passes needed: it has nothing to do for
// an hour, on a host whose memory is for mail.
const untilIdle = 10 * time.Second

// rest ends connections that nobody will use before their idle time is over, and gives back memory.
func (d *daemon) rest() {
	if s := d.current(); s != nil {
		s.world.close()
	}
	giveBack()
}

// giveBack returns free memory to the system, and the pages of the program, of which the start maps nearly all: the package
// variables of DNS providers are set up then, and the kernel maps 64 KiB and more for each page that is touched. They stay
// in the page cache as long as nobody needs the memory, and come back one by one when they are used.
func giveBack() {
	runtime.GC() // what pools hold goes in two steps
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return // no harm: the kernel takes them when it is short of memory
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, pages := range programPages(string(maps), program) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, pages[0], pages[1], unix.MADV_DONTNEED)
	}
}

// programPages finds in proc_pid_smaps(5) where pages of the program are mapped as they are in the file, each by its address
// and size. What was ever changed, as the loader changes constants of programs that can be loaded anywhere, would be lost.
func programPages(smaps, program string) (list [][2]uintptr) {
	var begin, size uintptr
	fileOnly := 0 // of the counts that must be 0: Anonymous, Swap
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2:
		case !strings.HasSuffix(fields[0], ":"):
			begin, size, fileOnly = 0, 0, 0
			if len(fields) == 6 && strings.HasPrefix(fields[1], "r-") && fields[5] == program {
				begin, size = addresses(fields[0])
			}
		case fields[0] == "Anonymous:" && fields[1] == "0", fields[0] == "Swap:" && fields[1] == "0":
			if fileOnly++; fileOnly == 2 && size > 0 {
				list = append(list, [2]uintptr{begin, size})
			}
		}
	}
	return list
}

// addresses reads "from-to", both hexadecimal.
func addresses(text string) (begin, size uintptr) {
	from, to, _ := strings.Cut(text, "-")
	first, err1 := strconv.ParseUint(from, 16, 64)
	last, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil || last < first {
		return 0, 0
	}
	return uintptr(first), uintptr(last - first)
}

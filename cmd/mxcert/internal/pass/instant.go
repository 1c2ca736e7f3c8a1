package pass

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/acme/state"
)

// now returns this moment, as looks at names need it. The service cannot read which start of the host this is; its own start, which has an
// ID of systemd, is within one.
func now() state.Instant {
	i := state.Instant{At: time.Now().UTC()}
	var up, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return i
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte(os.Getenv("INVOCATION_ID"))
	}
	i.Boot, i.Up, i.Awake = strings.TrimSpace(string(boot)), time.Duration(up.Nano()), time.Duration(awake.Nano())
	return i
}

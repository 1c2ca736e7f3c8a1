package resolve

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// A memory that a daemon keeps holds what the last minutes have found, and nothing for good.
func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m memory
		for i := range 1000 {
			m.put(strconv.Itoa(i), Delegation{Servers: make([]Server, 4)}, time.Hour) // a minute at most
		}
		full := m.bytes
		time.Sleep(longestMemory)
		m.put("new", Delegation{}, time.Hour)
		if _, known := m.get("new"); !known || len(m.entries) != 1 || m.bytes != weigh(Delegation{}) {
			t.Errorf("%d entries, %d bytes", len(m.entries), m.bytes)
		}
		if full <= 1000*m.bytes {
			t.Errorf("servers weigh nothing: %d bytes", full)
		}
	})
}

package alarm

import (
	"testing"
	"testing/synctest"
	"time"
)

// What has been over once lately is over only after a while: until then the alarm says since when it is not found any more.
func TestStoredSaysWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chat := &channel{name: "chat"}
		w := newWorld(t, sends(chat))
		kill := w.start()
		gone := func(want time.Time) {
			t.Helper()
			alarms, _, err := Stored(w.book, nil)
			if err != nil || len(alarms) != 1 || !alarms[0].Gone.Equal(want) {
				t.Errorf("the alarms are %+v, %v, want one that is gone since %s", alarms, err, want)
			}
		}
		w.pass(broken(), 2)
		gone(time.Time{})
		w.pass(nil, 0)
		chat.expect(t, "alarm", "recovered")
		elapse(time.Hour)
		w.pass(broken(), 2)
		gone(time.Time{})
		elapse(time.Hour)
		w.pass(nil, 0)
		gone(time.Now().Add(-time.Second).Truncate(time.Second)) // the teller is called after a second
		elapse(13 * time.Hour)
		if alarms, _, err := Stored(w.book, nil); err != nil || len(alarms) != 0 {
			t.Errorf("the alarms are %+v, %v", alarms, err)
		}
		kill()
	})
}

package pass

import (
	"testing"
	"time"
)

func TestRepairsOfHour(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ago := func(list ...time.Duration) (repairs []time.Time) {
		for _, d := range list {
			repairs = append(repairs, now.Add(-d))
		}
		return repairs
	}
	for _, tt := range []struct {
		what    string
		repairs []time.Time
		want    int
	}{
		{"none", nil, 0},
		{"one", ago(59 * time.Minute), 1},
		{"three", ago(59*time.Minute, time.Minute, 0), 3},
		{"the hour is over", ago(61*time.Minute, time.Minute, 0), 0},
		{"of a clock that was ahead", ago(-2 * time.Minute), 0},
	} {
		if got := repairsOfHour(tt.repairs, now); len(got) != tt.want {
			t.Errorf("%s: %d repairs, want %d", tt.what, len(got), tt.want)
		}
	}
}

package post

import "testing"

func TestOpen(t *testing.T) {
	if open().Text != "" {
		t.Error("not empty")
	}
}

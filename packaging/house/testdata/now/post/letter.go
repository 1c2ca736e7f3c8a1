// Package post has known arrows: letter.go → box.go, box.go ↔ flap.go, flap.go → size.go.
package post

import "strings"

// Letter is documented.
type Letter struct{ Text string }

// Put uses a function and a method of box.go. A local variable named flap is no use of the function in flap.go.
func (l Letter) Put() string {
	flap := strings.TrimSpace(l.Text)
	b := open()
	b.take(flap)
	return b.Text
}

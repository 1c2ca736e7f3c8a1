package post

// Box is documented.
type Box struct{ Text string }

func open() *Box { return &Box{} }

func (b *Box) take(text string) {
	if flap() {
		b.Text = text
	}
}

type Undocumented int

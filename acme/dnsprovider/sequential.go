package dnsprovider

import "time"

// Sequencer is what a Solver may implement besides: its provider can be trusted with one record at a time only, because
// it holds a single one, or because changes made at once undo each other. An order then proves one name after another
// (Present, validation, CleanUp), and lets interval pass between a CleanUp and the next Present; yes is false if the
// Solver turns out not to need this.
type Sequencer interface {
	Sequential() (interval time.Duration, yes bool)
}

// Sequential asks a Solver whether it is a [Sequencer] that says yes.
func Sequential(s Solver) (interval time.Duration, yes bool) {
	if sequencer, ok := s.(Sequencer); ok {
		return sequencer.Sequential()
	}
	return 0, false
}

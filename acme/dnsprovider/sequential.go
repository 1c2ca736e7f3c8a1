package dnsprovider

import "time"

// Sequencer is a [Solver] whose provider can handle only one record at a time, because it holds a single one, or because
// simultaneous changes undo each other. An order then proves one name after another (Present, validation, CleanUp), and waits
// for interval between a CleanUp and the next Present; yes is false if the Solver does not need this.
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

package configs

// Problem is one fault, or one suspicious thing, in a configuration file.
type Problem struct {
	File    string `json:"file"`             // as it was given to Load, or conf.d beside it
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the file itself is the problem
	Column  int    `json:"column,omitempty"` // in characters, from 1
	Text    string `json:"text,omitempty"`   // the offending line
	Path    string `json:"path,omitempty"`   // e.g. certificates[0].deploy[1].exim.mode
	Message string `json:"message"`          // what is wrong
	Hint    string `json:"hint,omitempty"`   // what to do
}

// Problems is the error of Load: everything that is wrong, in the order of the files.
type Problems struct {
	List []Problem
}

func (p *Problems) Error() string { return p.List[0].Message }

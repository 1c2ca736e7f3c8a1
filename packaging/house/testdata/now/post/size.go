package post

// The comment of a group documents its names.
const (
	Size  = 1
	Width = 2
)

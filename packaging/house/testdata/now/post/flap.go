package post

var shut Box

func flap() bool { return len(shut.Text) < Size }

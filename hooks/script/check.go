package script

import "path/filepath"

// Check looks at the hooks of a directory as [Run] would, but does not run them. If Run would skip a file, the outcome says why. If Run
// would refuse a file, the outcome has the error. A directory that does not exist has no hooks.
func Check(dir string) ([]Outcome, error) {
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	var outcomes []Outcome
	for _, entry := range entries {
		o := Outcome{Hook: filepath.Join(dir, entry.Name())}
		o.Skipped, o.Err = inspect(o.Hook)
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

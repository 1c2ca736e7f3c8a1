package state

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const usageFile = "usage.json"

// writing is how long nobody takes to write a file.
const writing = time.Hour

// sweep removes what killed processes left half made. What the lineage's lock guards, and what locks guard that nobody
// holds now, goes at once; elsewhere a young file may be one that another process is writing.
func (l *Lineage) sweep() (problems []error) {
	for pattern, age := range map[string]func(name string) time.Duration{
		"lineages/NAME/.new-*": l.own, "lineages/NAME/" + temporaryPrefix + "*": l.own, "lineages/NAME/displaced/" + temporaryPrefix + "*": l.own,
		"orders/" + temporaryPrefix + "*": l.ownByName, "journal/" + temporaryPrefix + "*": l.ownByName, "accounts/*/" + temporaryPrefix + "*": others,
		temporaryPrefix + "*": others, "lineages/" + temporaryPrefix + "*": others, "accounts/" + temporaryPrefix + "*": others,
	} {
		problems = append(problems, l.dir.removeLeft(strings.Replace(pattern, "NAME", l.name, 1), age)...)
	}
	for name, file := range map[string]string{"lock": accountFile, "usage.lock": usageFile} {
		problems = append(problems, l.dir.removeUnlocked(name, "accounts/*/"+temporaryPrefix+file+"~*")...)
	}
	return problems
}

func (l *Lineage) own(string) time.Duration { return 0 }
func others(string) time.Duration           { return writing }

// ownByName tells by the name of a temporary file, .tmp-LINEAGE.SUFFIX.json~RANDOM, whether it is of this lineage. The
// name of a lineage may contain dots; the suffix never does.
func (l *Lineage) ownByName(name string) time.Duration {
	name, _, _ = strings.Cut(strings.TrimPrefix(name, temporaryPrefix), "~")
	stem, isJSON := strings.CutSuffix(name, ".json")
	if cut := strings.LastIndexByte(stem, '.'); isJSON && cut >= 0 && stem[:cut] == l.name {
		return 0
	}
	return writing
}

// removeLeft removes the files that fit a pattern and are as old as age says, by their name.
func (d *Dir) removeLeft(pattern string, age func(name string) time.Duration) (problems []error) {
	left, _ := filepath.Glob(filepath.Join(d.path, pattern)) // the pattern is well-formed
	for _, path := range left {
		info, err := os.Lstat(path)
		if err == nil && info.IsDir() && os.Remove(path) == nil {
			continue // it was empty, and whoever makes it makes it again (makeDir)
		}
		if err == nil && time.Since(info.ModTime()) >= age(filepath.Base(path)) {
			problems = append(problems, failed("remove", path, os.RemoveAll(path)))
		}
	}
	return problems
}

// removeUnlocked removes the files that fit a pattern, unless another process holds the lock under which they are written.
func (d *Dir) removeUnlocked(name, pattern string) []error {
	if left, _ := filepath.Glob(filepath.Join(d.path, pattern)); len(left) == 0 {
		return nil
	}
	once, cancel := context.WithCancel(context.Background())
	cancel()
	unlock, err := lock(once, filepath.Join(d.path, name))
	if err != nil {
		return nil // somebody is at work: the next sweep
	}
	defer unlock()
	return d.removeLeft(pattern, func(string) time.Duration { return 0 })
}

package tlsrpt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// mostEntries limits the files of a directory that are looked at.
	mostEntries = 50_000
	// mostFiles and mostBytes limit what is read at once. Who calls again later reads the rest.
	mostFiles = 5_000
	mostBytes = 256 << 20
	// mostLevels limits the directories in each other: those of a maildir with folders, with room for one around it.
	mostLevels = 4
)

// File is what is in one file of a directory.
type File struct {
	Path    string // below the directory
	Changed time.Time
	Reports []Report
	Err     error // ErrNone and ErrCutOff as of [Read]
}

// Directory reads the files of a directory and of those in it, such as the mails of a maildir: the files that changed after a moment, the
// first change first. A file that was moved into the directory counts as changed then. It gives each file to take, and changes nothing.
//
// Directory follows no symbolic link, opens nothing but plain files, and leaves out the directory tmp, in which a maildir has unfinished
// mails. rest says how many files it has not read, because there were too many for one time.
func Directory(ctx context.Context, directory string, after time.Time, take func(File)) (rest int, err error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	list := &listing{ctx: ctx, root: root, after: after}
	if err := list.add(".", 0); err != nil {
		return 0, err
	}
	slices.SortFunc(list.files, func(a, b entry) int { return cmp.Or(a.changed.Compare(b.changed), cmp.Compare(a.path, b.path)) })
	left := int64(mostBytes)
	for i, e := range list.files {
		if left -= e.size; i > 0 && left < 0 || i == mostFiles {
			return len(list.files) - i, nil
		}
		if ctx.Err() != nil {
			return len(list.files) - i, ctx.Err()
		}
		f := File{Path: e.path, Changed: e.changed}
		f.Reports, f.Err = readIn(ctx, root, e.path)
		take(f)
	}
	return 0, nil
}

type entry struct {
	path    string
	changed time.Time
	size    int64
}

// listing collects the files to read.
type listing struct {
	ctx     context.Context //nolint:containedctx // of one call
	root    *os.Root
	after   time.Time
	entries int
	files   []entry
}

// add lists a directory, and those in it.
func (l *listing) add(directory string, level int) error {
	d, err := l.root.Open(directory)
	if err != nil {
		return l.passable(level, err)
	}
	defer d.Close()
	for {
		batch, err := d.ReadDir(1000)
		for _, e := range batch {
			if l.entries++; l.entries > mostEntries {
				return fmt.Errorf("it has more than %d files: remove old ones", mostEntries)
			}
			if err := l.one(path.Join(directory, e.Name()), e, level); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return l.passable(level, err)
		case l.ctx.Err() != nil:
			return l.ctx.Err()
		}
	}
}

// passable is the error about a directory: one below the first may be gone, or of others.
func (l *listing) passable(level int, err error) error {
	if level > 0 {
		return nil
	}
	return err
}

// one adds a file, or the files of a directory.
func (l *listing) one(name string, e fs.DirEntry, level int) error {
	switch {
	case e.IsDir() && e.Name() != "tmp" && level < mostLevels:
		return l.add(name, level+1)
	case !e.Type().IsRegular() || strings.HasPrefix(e.Name(), "."):
		return nil
	}
	info, err := e.Info()
	if err != nil { // it is gone
		return nil //nolint:nilerr // as if it had never been there
	}
	if changed := changeOf(info); changed.After(l.after) {
		l.files = append(l.files, entry{name, changed, info.Size()})
	}
	return nil
}

// changeOf returns when a file was written, renamed, or got other rights, whichever was last.
func changeOf(info fs.FileInfo) time.Time {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix()) //nolint:unconvert // the fields are 32 bits wide elsewhere
	}
	return info.ModTime()
}

// readIn reads a file that is still a plain one: nobody waits for the writer of a FIFO.
func readIn(ctx context.Context, root *os.Root, name string) ([]Report, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNone
	}
	return Read(&until{ctx, file})
}

// until reads until a context ends.
type until struct {
	ctx  context.Context //nolint:containedctx // of one call
	from io.Reader
}

// Read reads unless the context has ended.
func (u *until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.from.Read(p)
}

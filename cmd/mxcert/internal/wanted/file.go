package wanted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// largestFile bounds a file with certificates or a key: the roots of a whole system take a quarter of a megabyte.
const largestFile = 4 << 20

// readFile reads a regular file that the configuration names. It does not wait for the writer of a pipe, and reads no device: a file that is something
// else must not keep the daemon from ending, or fill its memory.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var wrong error
	switch mode := info.Mode(); {
	case mode.IsDir():
		wrong = syscall.EISDIR
	case !mode.IsRegular():
		wrong = errors.New("it is not a regular file")
	case info.Size() > largestFile:
		wrong = fmt.Errorf("it is larger than %d MiB", largestFile>>20)
	}
	if wrong != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: wrong}
	}
	return io.ReadAll(io.LimitReader(f, largestFile))
}

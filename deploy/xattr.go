package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// labels are the extended attributes (xattr(7)) that decide, together with the mode, who may read a file. mxcert replaces a file by a new
// one. If it did not copy the labels, what an administrator or a policy has set there would be lost.
type labels map[string][]byte

const (
	selinuxLabel = "security.selinux"
	accessList   = "system.posix_acl_access" // acl(5)

	usualLabel = 256      // enough for nearly all labels
	maxLabel   = 64 << 10 // XATTR_SIZE_MAX
)

func labelNames() []string { return []string{selinuxLabel, accessList} }

// readLabels reads the labels of an open file. If the file system has no such attributes, the file has no labels.
func readLabels(file *os.File) (labels, error) {
	var found labels
	for _, name := range labelNames() {
		value := make([]byte, usualLabel)
		n, err := unix.Fgetxattr(int(file.Fd()), name, value)
		if errors.Is(err, unix.ERANGE) {
			value = make([]byte, maxLabel)
			n, err = unix.Fgetxattr(int(file.Fd()), name, value)
		}
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSYS):
			continue
		case err != nil:
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		if found == nil {
			found = labels{}
		}
		found[name] = value[:n]
	}
	return found, nil
}

// set sets the labels of an open file. It leaves out labels that the file already has, because setting a label needs a privilege.
func (l labels) set(file *os.File) error {
	if len(l) == 0 {
		return nil
	}
	has, err := readLabels(file)
	if err != nil {
		return err
	}
	for _, name := range labelNames() {
		value, ok := l[name]
		if !ok || bytes.Equal(has[name], value) {
			continue
		}
		if err := unix.Fsetxattr(int(file.Fd()), name, value, 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

func hasAccessList(path string) bool {
	n, err := unix.Getxattr(path, accessList, nil)
	return err == nil && n > 0
}

package wanted

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mxcert/configs"
)

// howTextfile is what to do if the service cannot write the textfile.
const howTextfile = "make a directory that the service may write to: see METRICS in mxcert(7)"

// serviceUser is the user of mxcert.service.
const serviceUser = "mxcert"

// checkTextfile finds out early whether the textfile (metrics.textfile) cannot be written. Passes work without it. A directory that is missing
// where systemd makes directories for a service is only doubtful: the service may not have started yet.
func checkTextfile(config *configs.Config) (faults, doubts []configs.Problem) {
	file := config.Metrics.Textfile
	if file == "" {
		return nil, nil
	}
	directory, p := filepath.Dir(file), config.At("metrics.textfile")
	p.Hint = howTextfile
	info, err := os.Stat(directory)
	target, errTarget := os.Lstat(file)
	switch {
	case os.IsNotExist(err):
		p.Message = fmt.Sprintf("metrics.textfile: the directory %s does not exist", directory)
		if ofSystemd(directory) {
			return nil, []configs.Problem{p}
		}
	case err != nil:
		return nil, nil // this user may not look there; the service may
	case !info.IsDir():
		p.Message, p.Hint = fmt.Sprintf("metrics.textfile: %s is not a directory", directory), "name a file in a directory"
	case errTarget == nil && target.IsDir():
		p.Message, p.Hint = fmt.Sprintf("metrics.textfile: %s is a directory", file), "name another file, or remove the directory"
	case readOnly(directory):
		p.Message = fmt.Sprintf("metrics.textfile: %s is in a file system that is read-only here", directory)
	default:
		name := forbidden(config.State, directory, info)
		if name == "" {
			return nil, nil
		}
		p.Message = fmt.Sprintf("metrics.textfile: the user %s may not write to %s (%s)", name, directory, info.Mode())
	}
	return []configs.Problem{p}, nil
}

// ofSystemd reports whether a directory is where CacheDirectory=, StateDirectory=, LogsDirectory= or RuntimeDirectory= of systemd.exec(5) make one.
func ofSystemd(directory string) bool {
	return slices.ContainsFunc([]string{"/var/cache/", "/var/lib/", "/var/log/", "/run/"}, func(parent string) bool { return strings.HasPrefix(directory, parent) })
}

func readOnly(directory string) bool {
	var s unix.Statfs_t
	return unix.Statfs(directory, &s) == nil && s.Flags&unix.ST_RDONLY != 0
}

// forbidden returns the name of the user who writes the textfile if mode and owner of a directory forbid it to write there. Where that cannot be
// told it is "": nobody knows the user, root writes, or the directory has an ACL.
func forbidden(state, directory string, info os.FileInfo) string {
	name, uid, groups := writer(state)
	place, isPlace := info.Sys().(*syscall.Stat_t)
	if uid == 0 || !isPlace {
		return ""
	}
	if _, err := unix.Getxattr(directory, "system.posix_acl_access", nil); err == nil {
		return ""
	}
	bits := info.Mode().Perm()
	switch {
	case place.Uid == uid:
		bits >>= 6
	case slices.Contains(groups, strconv.FormatUint(uint64(place.Gid), 10)):
		bits >>= 3
	}
	if bits&0o3 == 0o3 { // to write and to search
		return ""
	}
	return name
}

// writer returns the user that writes the textfile, and its groups: the owner of the state directory or, before the service was started for the
// first time, the user of the service. uid is 0 if it is root, or if nobody knows it.
func writer(state string) (name string, uid uint32, groups []string) {
	u, err := user.Lookup(serviceUser)
	owner, errState := os.Stat(state)
	if errState == nil {
		stat, ok := owner.Sys().(*syscall.Stat_t)
		if !ok {
			return "", 0, nil
		}
		number := strconv.FormatUint(uint64(stat.Uid), 10)
		if u, err = user.LookupId(number); err != nil {
			return number, stat.Uid, nil
		}
	}
	if err != nil || !os.IsNotExist(errState) && errState != nil {
		return "", 0, nil
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return "", 0, nil
	}
	groups, _ = u.GroupIds() // without them, it has fewer rights
	return u.Username, uint32(n), groups
}

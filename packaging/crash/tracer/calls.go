//go:build linux && amd64

package tracer

import "golang.org/x/sys/unix"

// kind says which argument of a call is a path, and whether the call changes the file system.
type kind struct {
	name    string
	path    int // number of the argument, -1: none
	changes bool
}

// fileCalls returns the system calls that touch files. The tracer ignores the other calls of the Go runtime (futex, mmap, madvise): they
// differ from run to run, and leave nothing on a disk.
func fileCalls() map[uint64]kind {
	return map[uint64]kind{
		unix.SYS_READ: {"read", -1, false}, unix.SYS_PREAD64: {"pread64", -1, false}, unix.SYS_CLOSE: {"close", -1, false},
		unix.SYS_OPENAT: {"openat", 1, false}, unix.SYS_OPENAT2: {"openat2", 1, false}, unix.SYS_LSEEK: {"lseek", -1, false},
		unix.SYS_FSTAT: {"fstat", -1, false}, unix.SYS_STATX: {"statx", 1, false}, unix.SYS_NEWFSTATAT: {"newfstatat", 1, false},
		unix.SYS_FACCESSAT: {"faccessat", 1, false}, unix.SYS_FACCESSAT2: {"faccessat2", 1, false}, unix.SYS_READLINKAT: {"readlinkat", 1, false},
		unix.SYS_GETDENTS64: {"getdents64", -1, false}, unix.SYS_FCNTL: {"fcntl", -1, false}, unix.SYS_FLOCK: {"flock", -1, false},
		unix.SYS_STATFS: {"statfs", 0, false}, unix.SYS_FSTATFS: {"fstatfs", -1, false}, unix.SYS_GETXATTR: {"getxattr", 0, false},
		unix.SYS_LGETXATTR: {"lgetxattr", 0, false}, unix.SYS_FGETXATTR: {"fgetxattr", -1, false}, unix.SYS_FLISTXATTR: {"flistxattr", -1, false},

		unix.SYS_WRITE: {"write", -1, true}, unix.SYS_PWRITE64: {"pwrite64", -1, true}, unix.SYS_FTRUNCATE: {"ftruncate", -1, true},
		unix.SYS_FALLOCATE: {"fallocate", -1, true}, unix.SYS_FSYNC: {"fsync", -1, true}, unix.SYS_FDATASYNC: {"fdatasync", -1, true},
		unix.SYS_SYNCFS: {"syncfs", -1, true}, unix.SYS_FCHMOD: {"fchmod", -1, true}, unix.SYS_FCHMODAT: {"fchmodat", 1, true},
		unix.SYS_FCHMODAT2: {"fchmodat2", 1, true}, unix.SYS_FCHOWN: {"fchown", -1, true}, unix.SYS_FCHOWNAT: {"fchownat", 1, true},
		unix.SYS_MKDIRAT: {"mkdirat", 1, true}, unix.SYS_UNLINKAT: {"unlinkat", 1, true}, unix.SYS_LINKAT: {"linkat", 3, true},
		unix.SYS_SYMLINKAT: {"symlinkat", 2, true}, unix.SYS_RENAMEAT: {"renameat", 3, true}, unix.SYS_RENAMEAT2: {"renameat2", 3, true},
		unix.SYS_UTIMENSAT: {"utimensat", 1, true}, unix.SYS_FSETXATTR: {"fsetxattr", -1, true}, unix.SYS_LSETXATTR: {"lsetxattr", 0, true},
		unix.SYS_SETXATTR: {"setxattr", 0, true}, unix.SYS_IOCTL: {"ioctl", -1, true}, unix.SYS_COPY_FILE_RANGE: {"copy_file_range", -1, true},
		unix.SYS_CHMOD: {"chmod", 0, true}, unix.SYS_RENAME: {"rename", 1, true}, unix.SYS_UNLINK: {"unlink", 0, true},
		unix.SYS_MKDIR: {"mkdir", 0, true}, unix.SYS_RMDIR: {"rmdir", 0, true}, unix.SYS_LINK: {"link", 1, true}, unix.SYS_SYMLINK: {"symlink", 1, true},
	}
}

package configs

import (
	"path"
	"slices"
	"strings"
)

// checkTLSRPT checks the directory in which reports of senders arrive. The service sees neither homes nor temporary files (mxcert.service), and
// some places have files that are no mails.
func (l *loader) checkTLSRPT(c *Config) {
	const p = "tlsrpt.directory"
	directory := c.TLSRPT.Directory
	l.checkPath(p, directory)
	if directory == "" || !path.IsAbs(directory) || path.Clean(directory) != directory || directory == "/" {
		return
	}
	const better = "use a directory of its own, such as /var/spool/mxcert-tlsrpt"
	switch {
	case unseen(c.State, directory, "/home", "/root", "/run/user"):
		l.bad(p, better, "the service cannot see %s: systemd hides home directories from it", quote(directory))
	case unseen(c.State, directory, "/tmp", "/var/tmp"):
		l.bad(p, better, "the service cannot see %s: it has temporary files of its own", quote(directory))
	case within(directory, "/dev"), within(directory, "/proc"), within(directory, "/sys"):
		l.bad(p, better, "no mail arrives in %s", quote(directory))
	case c.State != "" && (within(directory, c.State) || within(c.State, directory)):
		l.bad(p, better, "%s and the state directory %s are in each other: mail and keys must be apart", quote(directory), quote(c.State))
	case c.Hooks.Directory != "" && within(directory, c.Hooks.Directory), within(directory, path.Dir(credentials)):
		l.bad(p, better, "%s is a directory of mxcert's configuration", quote(directory))
	case directory == "/var/mail", directory == "/var/spool/mail", directory == "/var/spool", directory == "/var", directory == "/etc", directory == "/var/lib":
		l.bad(p, better, "%s holds more than reports", quote(directory))
	case strings.HasSuffix(directory, "/new"), strings.HasSuffix(directory, "/cur"), strings.HasSuffix(directory, "/tmp"):
		l.warn(p, "write "+path.Dir(directory), "%s looks like a part of a maildir: mxcert reads new and cur of it if you name the maildir", quote(directory))
	}
}

// unseen reports whether a path is in one of the trees. If the state is there too, mxcert does not run as the service.
func unseen(state, file string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return within(file, tree) && !within(state, tree) })
}

// within reports whether a path is a directory, or in it.
func within(file, directory string) bool {
	return file == directory || strings.HasPrefix(file, strings.TrimSuffix(directory, "/")+"/")
}

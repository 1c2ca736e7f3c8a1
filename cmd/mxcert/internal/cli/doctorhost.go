package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mxcert/acme"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/configs"
	"mxcert/hooks/script"

	"mxcert/cmd/mxcert/internal/report"
)

// Room in the state directory's file system: below the first a renewal may fail, below the second it is worth knowing.
const (
	leastRoom   = 16 << 20
	scarceRoom  = 100 << 20
	leastInodes = 100
)

// doctorWorld makes a world of a configuration of which parts may not work; the tests say which.
func doctorWorld(config *configs.Config, version string) *world {
	w := &world{config: config, version: version, store: state.New(disk.At(config.State))}
	w.chainRoots, _ = readRoots("acme.roots_file", config.ACME.RootsFile)
	caRoots, _ := readRoots("acme.ca_file", config.ACME.CAFile)
	if caRoots != nil && len(config.ACME.Directories) > 1 {
		caRoots = withSystemRoots(caRoots, config.ACME.CAFile)
	}
	settings, err := authorities(config, version, caRoots)
	if err != nil { // a secret of a binding, without which the CAs can be looked at all the same
		settings = nil
		for _, directory := range config.ACME.Directories {
			settings = append(settings, acme.Settings{Directory: directory, Roots: caRoots, UserAgent: "mxcert/" + version})
		}
	}
	w.cas = acme.NewAuthorities(w.store, settings...)
	return w
}

// hostLooks are the tests that belong to no certificate.
func (d *doctor) hostLooks() []doctorLook {
	looks := []doctorLook{
		{id: "configuration", run: d.lookAtConfiguration},
		{id: "secrets", run: d.lookAtSecrets},
		{id: "state", run: d.lookAtState},
		{id: "daemon", run: d.lookAtDaemon},
		{id: "hooks", run: d.lookAtHooks},
		{id: "rights", run: d.lookAtRights},
	}
	for i, client := range d.world.cas.Clients() {
		directory := d.config.ACME.Directories[i]
		looks = append(looks, doctorLook{id: "ca", run: func(ctx context.Context) []doctorCheck { return d.lookAtCA(ctx, directory, client) }})
	}
	return looks
}

func configurationFaults(list []configs.Problem) []doctorCheck {
	var checks []doctorCheck
	for _, p := range list {
		checks = append(checks, bad("%s", positioned(p)).called("configuration").because(p.Hint))
	}
	return checks
}

// positioned is a fault with its place in the file.
func positioned(p configs.Problem) string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

func (d *doctor) lookAtConfiguration(context.Context) []doctorCheck {
	var checks []doctorCheck
	if problems, ok := errors.AsType[*configs.Problems](checkOutside(d.config)); ok {
		checks = configurationFaults(problems.List)
	}
	for _, w := range d.config.Warnings() {
		checks = append(checks, doubtful("%s", positioned(w)).because(w.Hint))
	}
	if len(checks) == 0 {
		checks = append(checks, well("%s: no fault found; %d %s", d.configFile, len(d.config.Certificates), report.Plural(len(d.config.Certificates), "certificate")))
	}
	return checks
}

func (d *doctor) lookAtSecrets(context.Context) []doctorCheck {
	var checks []doctorCheck
	for _, p := range unreadableSecrets(d.config) {
		checks = append(checks, bad("%s", positioned(p)).because(cmp.Or(p.Hint, "put the secret where the setting points, readable by the user that renews and nobody else")))
	}
	if len(checks) == 0 {
		checks = append(checks, well("every secret of the configuration can be read"))
	}
	return checks
}

// lookAtState finds out whether the state directory can be worked with, and what an earlier run has left there.
func (d *doctor) lookAtState(context.Context) []doctorCheck {
	path := d.config.State
	found, err := d.world.store.Inspect()
	if errors.Is(err, fs.ErrNotExist) {
		return []doctorCheck{d.lookAbove(path)}
	}
	if err != nil {
		return []doctorCheck{bad("%s", err).about(path).because(report.HintOf(err))}
	}
	var checks []doctorCheck
	for _, f := range found {
		c := doubtful("%s: %s", f.Subject, f.Message)
		if f.Severity == finding.Error {
			c = bad("%s: %s", f.Subject, f.Message)
		}
		checks = append(checks, c.about(f.Subject).because(f.Hint))
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		checks = append(checks, bad("%s cannot be written to: %v", path, err).about(path).because("run doctor as root or as the user that owns the directory; otherwise mend its owner and mode, or the file system"))
	}
	checks = append(checks, roomIn(path)...)
	if names, err := d.world.store.JournalLineages(); err == nil && len(names) > 0 {
		checks = append(checks, doubtful("TXT records of an earlier order may still exist, or an order is under way now (%s)", strings.Join(names, ", ")).
			because("the next pass of the certificate removes what is left; of one that is not configured any more, the daemon does"))
	}
	if len(checks) == 0 {
		checks = append(checks, well("%s is in order", path).about(path))
	}
	return checks
}

// lookAbove is for a state directory that is not there yet.
func (d *doctor) lookAbove(path string) doctorCheck {
	above := filepath.Dir(path)
	for above != "/" && unix.Access(above, unix.F_OK) != nil {
		above = filepath.Dir(above)
	}
	if err := unix.Access(above, unix.W_OK|unix.X_OK); err != nil {
		return bad("%s does not exist, and cannot be made in %s: %v", path, above, err).about(path).because("run doctor as root, or make the directory and give it to the user that renews")
	}
	return well("%s does not exist yet: the first renewal makes it", path).about(path)
}

func roomIn(path string) []doctorCheck {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil
	}
	room := fs.Bavail * uint64(fs.Bsize)
	const hint = "make room on the file system of the state directory"
	switch {
	case room < leastRoom:
		return []doctorCheck{bad("%d MiB are free for %s", room>>20, path).about(path).because(hint)}
	case fs.Files > 0 && fs.Ffree < leastInodes:
		return []doctorCheck{bad("%d files can still be made on the file system of %s", fs.Ffree, path).about(path).because(hint)}
	case room < scarceRoom:
		return []doctorCheck{doubtful("%d MiB are free for %s", room>>20, path).about(path).because(hint)}
	}
	return nil
}

// lookAtDaemon tells who renews here.
func (d *doctor) lookAtDaemon(context.Context) []doctorCheck {
	r := readDaemon(d.world.store)
	switch {
	case r == nil:
		return []doctorCheck{well("no daemon runs here: certificates are renewed when something calls mxcert renew")}
	case r.ConfigError != "":
		return []doctorCheck{doubtful("the daemon (process %d) found the configuration bad at %s and goes on with the old one", r.PID, report.Minute(*r.ConfigErrorAt)).
			because("systemctl reload mxcert, now that the file is good; mxcert status shows what it said")}
	case r.Version != d.version:
		return []doctorCheck{doubtful("the daemon (process %d) is mxcert %s, this is %s", r.PID, r.Version, d.version).because("systemctl restart mxcert")}
	}
	return []doctorCheck{well("the daemon runs since %s (process %d)", report.Minute(r.Started), r.PID)}
}

// lookAtHooks finds hooks that would be refused, or skipped by mistake.
func (d *doctor) lookAtHooks(context.Context) []doctorCheck {
	var checks []doctorCheck
	count := 0
	for _, event := range []string{"pre.d", "deploy.d", "post.d", "fail.d"} {
		outcomes, err := script.Check(filepath.Join(d.config.Hooks.Directory, event))
		checks = append(checks, faults(err, "see hooks.directory of the configuration")...)
		for _, o := range outcomes {
			switch {
			case o.Err != nil:
				checks = append(checks, bad("%s", o.Err).about(o.Hook).because(report.HintOf(o.Err)))
			case o.Skipped == "it is not executable":
				checks = append(checks, doubtful("%s is no hook: %s", o.Hook, o.Skipped).about(o.Hook).because("chmod +x "+o.Hook+", if it is meant to run"))
			case o.Skipped == "":
				count++
			}
		}
	}
	if len(checks) == 0 {
		checks = append(checks, well("%d %s in %s", count, report.Plural(count, "hook"), d.config.Hooks.Directory))
	}
	return checks
}

package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/hooks/script"
)

// Free space in the state directory's file system: below leastRoom a renewal may fail, below scarceRoom the operator should
// know.
const (
	leastRoom   = 16 << 20
	scarceRoom  = 100 << 20
	leastInodes = 100
)

// hostTests returns the tests that belong to no single certificate.
func (d *Doctor) hostTests() []test {
	tests := []test{
		{id: "configuration", run: d.configuration},
		{id: "secrets", run: d.secrets},
		{id: "state", run: d.state},
		{id: "daemon", run: d.daemon},
		{id: "hooks", run: d.hooks},
		{id: "rights", run: d.rights},
		{id: "mail-server", run: d.sending},
	}
	if d.Runner.Host.Fleet != nil {
		tests = append(tests, test{id: "fleet", run: d.fleet})
	}
	if d.Runner.Host.Page != "" {
		tests = append(tests, test{id: "page", run: d.page})
	}
	if d.Runner.Host.Metrics.Textfile != "" {
		tests = append(tests, test{id: "textfile", run: d.textfile})
	}
	if settings := d.Runner.Host.Transparency(); settings.Watch || settings.LogList != "" {
		tests = append(tests, test{id: "ct", run: d.transparency})
	}
	if i := slices.IndexFunc(d.Certificates, isMail); i >= 0 {
		resolver := d.Certificates[i].Resolver()
		tests = append(tests, test{id: "port-25-out", run: func(ctx context.Context) []finding.Finding { return d.outgoing(ctx, resolver) }})
	}
	if t, is := d.reportTest(); is {
		tests = append(tests, t)
	}
	for _, c := range d.Runner.Host.Channels() {
		tests = append(tests, test{id: "notify", run: d.channel(c)})
	}
	for _, directory := range d.Runner.Host.Directories {
		client := d.Runner.CAs.At(directory)
		tests = append(tests, test{id: "ca", run: func(ctx context.Context) []finding.Finding { return d.ca(ctx, directory, client) }})
	}
	return tests
}

func (d *Doctor) configuration(context.Context) []finding.Finding {
	n := len(d.Runner.Host.Certificates)
	return orWell(d.Configuration, "%s: no fault found; %d %s", d.ConfigFile, n, report.Plural(n, "certificate"))
}

func (d *Doctor) secrets(ctx context.Context) []finding.Finding {
	var found []finding.Finding
	secrets, who := d.Secrets, ""
	if seen := d.service(ctx); seen != nil {
		secrets, who = seen.Secrets, " by the service"
	}
	for _, f := range secrets {
		found = append(found, f.Next(cmp.Or(f.Hint, "put the secret where the setting points, readable only by the user that renews")))
	}
	return orWell(found, "every secret of the configuration can be read%s", who)
}

// state checks that the state directory can be used, and looks for what an earlier run has left there.
func (d *Doctor) state(context.Context) []finding.Finding {
	path := d.Runner.Host.State
	inspected, err := d.Runner.Store.Inspect()
	if errors.Is(err, fs.ErrNotExist) {
		return []finding.Finding{d.above(path)}
	}
	if err != nil {
		return []finding.Finding{bad("%s", err).About(path).Next(report.HintOf(err))}
	}
	var found []finding.Finding
	for _, f := range inspected {
		f.Message = f.Subject + ": " + f.Message
		found = append(found, called("state", f))
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		found = append(found, bad("%s cannot be written to: %v", path, err).About(path).Next("run doctor as root or as the user that owns the directory; otherwise fix its owner and mode, or the file system"))
	}
	found = append(found, roomIn(path)...)
	if names, err := d.Runner.Store.JournalLineages(); err == nil && len(names) > 0 {
		found = append(found, doubtful("TXT records of an earlier order may still exist, or an order is under way now (%s)", strings.Join(names, ", ")).
			Next("the next pass of the certificate removes what is left; if it is not configured any more, the daemon does"))
	}
	if len(found) == 0 {
		found = append(found, well("%s is in order", path).About(path))
	}
	return found
}

// above checks that a state directory can be created that does not exist yet.
func (d *Doctor) above(path string) finding.Finding {
	above := filepath.Dir(path)
	for above != "/" && unix.Access(above, unix.F_OK) != nil {
		above = filepath.Dir(above)
	}
	if err := unix.Access(above, unix.W_OK|unix.X_OK); err != nil {
		return bad("%s does not exist, and cannot be created in %s: %v", path, above, err).About(path).Next("run doctor as root, or create the directory and give it to the user that renews")
	}
	return well("%s does not exist yet: the first renewal creates it", path).About(path)
}

func roomIn(path string) []finding.Finding {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil
	}
	room := fs.Bavail * uint64(fs.Bsize)
	const hint = "free space on the file system of the state directory"
	switch {
	case room < leastRoom:
		return []finding.Finding{bad("only %d MiB are free for %s", room>>20, path).About(path).Next(hint)}
	case fs.Files > 0 && fs.Ffree < leastInodes:
		return []finding.Finding{bad("only %d more files can be created on the file system of %s", fs.Ffree, path).About(path).Next(hint)}
	case room < scarceRoom:
		return []finding.Finding{doubtful("only %d MiB are free for %s", room>>20, path).About(path).Next(hint)}
	}
	return nil
}

// daemon reports who renews certificates on this host.
func (d *Doctor) daemon(context.Context) []finding.Finding {
	r := d.Daemon
	switch {
	case r == nil:
		return []finding.Finding{well("no daemon runs here: certificates are renewed when something calls mxcert renew")}
	case r.ConfigError != "":
		return []finding.Finding{doubtful("the daemon (process %d) found the configuration bad at %s and still works with the old one", r.PID, r.BadSince()).
			Next("systemctl reload mxcert, if the file is good now; mxcert status shows the daemon's error")}
	case r.Version != d.Runner.Release:
		return []finding.Finding{doubtful("the daemon (process %d) is mxcert %s, this is %s", r.PID, r.Version, d.Runner.Release).Next("systemctl restart mxcert")}
	}
	return []finding.Finding{well("the daemon has been running since %s (process %d)", report.Minute(r.Started), r.PID)}
}

// hooks finds hooks that mxcert would refuse, or skip although they are meant to run.
func (d *Doctor) hooks(context.Context) []finding.Finding {
	if len(d.Runner.Host.Certificates) == 0 {
		return nil
	}
	directory := d.Runner.Host.Certificates[0].HookDirectory
	var found []finding.Finding
	count := 0
	for _, event := range []string{"pre.d", "deploy.d", "post.d", "fail.d"} {
		outcomes, err := script.Check(filepath.Join(directory, event))
		found = append(found, faults(err, "see hooks.directory of the configuration")...)
		for _, o := range outcomes {
			switch {
			case o.Err != nil:
				found = append(found, bad("%s", o.Err).About(o.Hook).Next(report.HintOf(o.Err)))
			case o.Skipped == "it is not executable":
				found = append(found, doubtful("%s is not run: %s", o.Hook, o.Skipped).About(o.Hook).Next("chmod +x "+o.Hook+", if it is meant to run"))
			case o.Skipped == "":
				count++
			}
		}
	}
	return orWell(found, "%d %s in %s", count, report.Plural(count, "hook"), directory)
}

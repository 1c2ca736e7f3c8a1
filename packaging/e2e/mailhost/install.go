package mailhost

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Install says how much of mxcert a host gets.
type Install struct {
	// Config is the text of /etc/mxcert/mxcert.yaml; empty leaves the file out.
	Config string
	// Service puts the units, sysusers and tmpfiles of packaging in their places, makes the user mxcert and the group
	// mxcert-keys, of which Exim becomes a member, and with Config has mxcert write the polkit rule for its units. No unit
	// is started. Without Service there is the program alone, for stories that run it as root.
	Service bool
}

// InstallMxcert builds cmd/mxcert and puts it at /usr/bin/mxcert of the host.
func (h *Host) InstallMxcert(ctx context.Context, i Install) error {
	program, err := Build(ctx, "mxcert/cmd/mxcert")
	if err != nil {
		return fmt.Errorf("install mxcert: %w", err)
	}
	if err := h.Put("/usr/bin/mxcert", program, 0o755); err != nil {
		return err
	}
	if i.Service {
		if err := h.installService(ctx); err != nil {
			return fmt.Errorf("install mxcert's service: %w", err)
		}
	}
	if i.Config == "" {
		return nil
	}
	if err := h.Put("/etc/mxcert/mxcert.yaml", []byte(i.Config), 0o644); err != nil || !i.Service {
		return err
	}
	_, err = h.Must(ctx, "mxcert", "polkit", "--install")
	return err
}

// accounts does what the Debian package does when it is installed, and what the administrator does after it: Exim reads
// keys as a member of mxcert-keys.
const accounts = `set -e
systemd-sysusers mxcert.conf
systemd-tmpfiles --create mxcert.conf
journalctl --update-catalog
if getent passwd Debian-exim >/dev/null; then usermod --append --groups mxcert-keys Debian-exim; fi
`

func (h *Host) installService(ctx context.Context) error {
	module, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	for source, place := range map[string]string{
		"packaging/systemd/*[^g]": "/etc/systemd/system/", "packaging/systemd/*.catalog": "/usr/lib/systemd/catalog/", "packaging/sysusers.d/*": "/usr/lib/sysusers.d/", "packaging/tmpfiles.d/*": "/usr/lib/tmpfiles.d/",
	} {
		files, err := filepath.Glob(filepath.Join(module, source))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("nothing to install at %s: %v", source, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := h.Put(place+filepath.Base(file), text, 0o644); err != nil {
				return err
			}
		}
	}
	if _, err := h.Must(ctx, "sh", "-c", accounts); err != nil {
		return err
	}
	_, err = h.Must(ctx, "systemctl", "daemon-reload")
	return err
}

// BuildDeb builds the Debian package with a version, from a copy of the module below a directory, and returns its path.
func BuildDeb(ctx context.Context, directory, version string) (path string, err error) {
	module, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	copied := filepath.Join(directory, "tree")
	build := exec.CommandContext(ctx, "sh", "-ec", `mkdir "$1"; tar -c --exclude=./.git --exclude=./bin --exclude=./dist . | tar -x -C "$1"; cd "$1"; sh packaging/nfpm/build.sh deb >&2`, "sh", copied)
	build.Dir = module
	build.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1790000000", "ARCH=amd64", "VARIANT=")
	if _, err := output(build); err != nil {
		return "", err
	}
	path = filepath.Join(copied, "dist", "mxcert_"+version+"_amd64.deb")
	_, err = os.Stat(path)
	return path, err
}

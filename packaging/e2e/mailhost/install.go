package mailhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Install says how much of mxcert a host gets.
type Install struct {
	// Config is the text of /etc/mxcert/mxcert.yaml; empty leaves the file out.
	Config string
	// Service puts packaging/systemd/mxcert.service and the rules of packaging/polkit, if any, in their places. When the
	// unit runs as the user mxcert, that user is made, with the group mxcert-keys, of which Exim becomes a member. The
	// unit is not started. Without Service there is the program alone, for stories that run it as root.
	Service bool
}

// InstallMxcert builds cmd/mxcert and puts it at /usr/bin/mxcert of the host.
func (h *Host) InstallMxcert(ctx context.Context, i Install) error {
	program, err := build(ctx, "mxcert/cmd/mxcert")
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
	return h.Put("/etc/mxcert/mxcert.yaml", []byte(i.Config), 0o644)
}

// accounts makes the users and groups that the Debian package makes.
const accounts = `set -e
getent group mxcert-keys >/dev/null || groupadd --system mxcert-keys
getent passwd mxcert >/dev/null || useradd --system --user-group --groups mxcert-keys --home-dir /var/lib/mxcert --shell /usr/sbin/nologin mxcert
usermod --append --groups mxcert-keys Debian-exim
install -d -o mxcert -g mxcert -m 0700 /var/lib/mxcert
`

func (h *Host) installService(ctx context.Context) error {
	module, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	unit, err := os.ReadFile(filepath.Join(module, "packaging/systemd/mxcert.service"))
	if err != nil {
		return err
	}
	if strings.Contains(string(unit), "\nUser=mxcert\n") {
		if _, err := h.Must(ctx, "sh", "-c", accounts); err != nil {
			return err
		}
	}
	rules, err := filepath.Glob(filepath.Join(module, "packaging/polkit/*.rules"))
	if err != nil {
		return err
	}
	for _, rule := range rules {
		text, err := os.ReadFile(rule)
		if err != nil {
			return err
		}
		if err := h.Put("/etc/polkit-1/rules.d/"+filepath.Base(rule), text, 0o644); err != nil {
			return err
		}
	}
	if err := h.Put("/etc/systemd/system/mxcert.service", unit, 0o644); err != nil {
		return err
	}
	_, err = h.Must(ctx, "systemctl", "daemon-reload")
	return err
}

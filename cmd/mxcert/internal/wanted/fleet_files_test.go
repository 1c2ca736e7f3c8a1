package wanted_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// What is in its place and cannot be read is listed for each file of the fleet; what is missing is not, because a configuration may be checked
// before its secrets are in place.
func TestFleetFilesUnreadable(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	roots := filepath.Join(filepath.Dir(h.identity), "ca.pem")
	h.write(roots, "", 0o600)
	c := config(t, h.text("certificate: "+h.certificate, "ca_file: "+roots+", certificate: "+h.certificate))
	if list := wanted.UnreadableFleet(c); len(list) != 0 {
		t.Errorf("all can be read: %+v", list)
	}
	for setting, path := range map[string]string{"fleet.identity": h.identity, "fleet.etcd.ca_file": roots, "fleet.etcd.certificate": h.certificate, "fleet.etcd.private_key": h.key} {
		text, err := os.ReadFile(path)
		if err := errors.Join(err, os.Remove(path)); err != nil {
			t.Fatal(err)
		}
		if list := wanted.UnreadableFleet(c); len(list) != 0 {
			t.Errorf("%s is missing: %+v", path, list)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		list := wanted.UnreadableFleet(c)
		if len(list) != 1 || list[0].Path != setting || list[0].Line == 0 || !strings.HasPrefix(list[0].Message, setting+": ") || !strings.Contains(list[0].Message, path) || list[0].Hint == "" {
			t.Errorf("%s: %+v", setting, list)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		h.write(path, string(text), 0o600)
	}
}

// What is no file with a certificate or a key is an error soon: a pipe into which nobody writes, and a device that never ends, would keep the daemon
// from going on and from ending.
func TestFleetFilesThatAreNone(t *testing.T) {
	t.Parallel()
	for what, put := range map[string]func(path string) error{
		"a pipe":            func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a device":          func(path string) error { return os.Symlink("/dev/zero", path) },
		"a loop of links":   func(path string) error { return os.Symlink(path, path) },
		"a very large file": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		h := newFleetHost(t)
		roots := filepath.Join(filepath.Dir(h.identity), "ca.pem")
		h.write(roots, "", 0o600)
		text := h.text("certificate: "+h.certificate, "ca_file: "+roots+", certificate: "+h.certificate)
		for setting, path := range map[string]string{"fleet.identity": h.identity, "fleet.etcd.ca_file": roots, "fleet.etcd.certificate": h.certificate, "fleet.etcd.private_key": h.key} {
			kept := path + ".kept"
			if err := errors.Join(os.Rename(path, kept), put(path)); err != nil {
				t.Fatal(err)
			}
			f, c := load(t, text).Fleet, config(t, text)
			errs := make(chan error, 1)
			go func() {
				var err error
				switch setting {
				case "fleet.identity":
					_, err = f.Identity()
				case "fleet.etcd.ca_file":
					_, err = f.TLS()
				default:
					_, err = f.ClientCertificate()
				}
				_ = wanted.CheckFiles(c)
				errs <- err
			}()
			select {
			case err := <-errs:
				if err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("%s is %s: %v", setting, what, err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s is %s: whoever reads it hangs", setting, what)
			}
			if list := wanted.UnreadableFleet(c); len(list) != 1 || list[0].Path != setting {
				t.Errorf("%s is %s: %+v", setting, what, list)
			}
			if err := os.Rename(kept, path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A key that everybody can read is refused, whether the setting is a path or a reference to one.
func TestOpenClientKeyByReference(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	if err := os.Chmod(h.key, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{h.key, `"file:` + h.key + `"`} {
		text := h.text("private_key: "+h.key, "private_key: "+setting)
		if _, err := load(t, text).Fleet.ClientCertificate(); err == nil || !strings.Contains(err.Error(), "fleet.etcd.private_key: "+h.key+" can be read by everybody") {
			t.Errorf("%s: %v", setting, err)
		}
		if err := wanted.CheckFleet(config(t, text)); err == nil || !strings.Contains(err.Error(), "can be read by everybody") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// A client certificate that is not that of its key is a fault for who checks, one that is missing a warning; neither keeps this host from renewing.
func TestClientCertificateAtFault(t *testing.T) {
	t.Parallel()
	h := newFleetHost(t)
	faults := func() (list []configs.Problem) {
		t.Helper()
		c := config(t, h.text())
		if err := wanted.Check(c); err != nil {
			t.Errorf("it keeps this host from renewing: %v", err)
		}
		return wanted.CheckFiles(c)
	}
	want := func(what, setting, says string) {
		t.Helper()
		if list := faults(); len(list) != 1 || list[0].Path != setting || !strings.Contains(list[0].Message, says) || list[0].Hint == "" {
			t.Errorf("%s: %+v", what, list)
		}
	}
	if list := faults(); len(list) != 0 {
		t.Errorf("all is well: %+v", list)
	}
	old, err := os.ReadFile(h.key)
	if err != nil {
		t.Fatal(err)
	}
	h.client("mx1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	h.write(h.key, string(old), 0o600)
	want("another key", "fleet.etcd.certificate", "are no certificate with its key")
	h.client("mx1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	h.write(h.key, string(old), 0o644)
	if list := faults(); len(list) != 0 {
		t.Errorf("CheckFleet says it already: %+v", list)
	}
	if _, err := load(t, h.text()).Fleet.ClientCertificate(); err == nil || !strings.Contains(err.Error(), "fleet.etcd.private_key: "+h.key+" can be read by everybody") {
		t.Errorf("a key that everybody can read: %v", err)
	}
	h.client("mx1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	for _, path := range []string{h.key, h.certificate} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if list := faults(); len(list) != 0 {
			t.Errorf("missing: %+v", list)
		}
		setting := map[string]string{h.key: "fleet.etcd.private_key", h.certificate: "fleet.etcd.certificate"}[path]
		if list := wanted.Warnings(config(t, h.text())); len(list) != 1 || list[0].Path != setting || !strings.Contains(list[0].Message, path+": no such file") || list[0].Hint == "" {
			t.Errorf("missing: %+v", list)
		}
	}
}

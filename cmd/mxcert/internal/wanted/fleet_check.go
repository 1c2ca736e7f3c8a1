package wanted

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"mxcert/acme/fleet/seal"
	"mxcert/configs"
)

// checkFleet finds faults of the section fleet that the configuration alone does not show: what the host is called, and whose secret its identity
// is. An identity that this process may not read is not judged; [UnreadableSecrets] lists it.
func checkFleet(config *configs.Config) []configs.Problem {
	f := fleetOf(config, &secrets{})
	if f == nil {
		return nil
	}
	var list []configs.Problem
	add := func(path, hint, format string, args ...any) {
		p := config.At(path)
		p.Message, p.Hint = path+": "+fmt.Sprintf(format, args...), hint
		list = append(list, p)
	}
	if f.Host == "" {
		name, _ := os.Hostname()
		add("fleet.host", "write a name that no other host of the fleet has, such as host: mx1", "is not set, and the short name of this host (%q) cannot be that of one host among several", name)
	}
	for i, text := range config.Fleet.Recipients {
		if _, err := seal.ParseRecipient(text); err != nil {
			add(fmt.Sprintf("fleet.recipients[%d]", i), "age-keygen -y FILE prints it", "%v", err)
		}
	}
	if what, open := openFile(config.Fleet.Identity); open {
		add("fleet.identity", "chown root:mxcert "+what+"; chmod 0640 "+what, "%s can be read by everybody on this host", what)
	}
	if what, open := openFile(configs.Secret("file:" + config.Fleet.Etcd.PrivateKey)); open {
		add("fleet.etcd.private_key", "chown root:mxcert "+what+"; chmod 0640 "+what, "%s can be read by everybody on this host", what)
	}
	if _, err := f.secrets.read(config.Fleet.Identity); err != nil {
		return list
	}
	identity, err := f.Identity()
	if err != nil {
		add("fleet.identity", "age-keygen makes one: a line that begins with AGE-SECRET-KEY-1", "%s", strings.TrimPrefix(err.Error(), "fleet.identity: "))
		return list
	}
	if own := string(identity.Recipient()); !slices.Contains(config.Fleet.Recipients, own) {
		add("fleet.recipients", "is it the identity of another host? If not, add this line on all hosts: - "+own, "the recipient of this host's identity (%s) is not among them", config.Fleet.Identity)
	}
	return list
}

// openFile reports whether everybody may read a file that a reference names. Files of cred: are refused when they are read.
func openFile(s configs.Secret) (path string, open bool) {
	path, isFile := strings.CutPrefix(string(s), "file:")
	if !isFile || !strings.HasPrefix(path, "/") {
		return "", false
	}
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().Perm()&0o007 != 0
}

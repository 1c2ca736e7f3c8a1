package wanted

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mxcert/acme/fleet/seal"
	"mxcert/configs"
)

// checkMembership finds faults of the section fleet itself: what the host is called, and whom it lists.
func checkMembership(config *configs.Config) []configs.Problem {
	f := fleetOf(config, &secrets{})
	if f == nil {
		return nil
	}
	var list []configs.Problem
	add := func(path, hint, message string) {
		p := config.At(path)
		p.Message, p.Hint = path+": "+message, hint
		list = append(list, p)
	}
	if f.Host == "" {
		name, _ := os.Hostname()
		add("fleet.host", "write a name that no other host of the fleet has, such as host: mx1",
			fmt.Sprintf("is not set, and the short name of this host (%q) cannot be that of one host among several", name))
	}
	for i, text := range config.Fleet.Recipients {
		if _, err := seal.ParseRecipient(text); err != nil {
			add(fmt.Sprintf("fleet.recipients[%d]", i), "age-keygen -y FILE prints it", err.Error())
		}
	}
	return list
}

// CheckFleet finds files and secrets that keep this host from taking part in its fleet: the certificate of etcd's CA, secrets that everybody
// can read, an identity that is none or is not among the recipients. With such a fault a host goes on from its own disk, as without the store. The
// error is a *configs.Problems, with the place of each fault. What this process cannot read is not judged; [UnreadableSecrets] lists it.
func CheckFleet(config *configs.Config) error {
	f := fleetOf(config, &secrets{})
	if f == nil {
		return nil
	}
	problems := &configs.Problems{}
	add := func(setting string, err error) {
		problems.List = append(problems.List, problemAt(config, setting, err))
	}
	if _, err := f.TLS(); err != nil {
		add(rootsSetting, err)
	}
	if what, open := openFile(config.Fleet.Identity); open {
		add(identitySetting, openError(identitySetting, what))
	}
	if what, open := openFile(fileOf(config.Fleet.Etcd.PrivateKey)); open {
		add(keySetting, openError(keySetting, what))
	}
	if _, err := f.secrets.read(config.Fleet.Identity); err == nil {
		if identity, err := f.readIdentity(); err != nil {
			add(identitySetting, err)
		} else if err := f.lists(identity); err != nil {
			add("fleet.recipients", err)
		}
	}
	if len(problems.List) > 0 {
		return problems
	}
	return nil
}

// problemAt is an error as a fault of a setting.
func problemAt(config *configs.Config, setting string, err error) configs.Problem {
	p := config.At(setting)
	p.Message, p.Hint = err.Error(), hintOf(err)
	return p
}

// clientProblems finds what is wrong with the client certificate and its key: that they are missing, which is a warning, because a configuration may
// be checked before its files are in place; or anything else. A key that is a secret and missing is listed by [UnreadableSecrets], and not everybody
// who checks may read the files.
func clientProblems(config *configs.Config, missing bool) []configs.Problem {
	f := fleetOf(config, &secrets{})
	if f == nil || f.client.certificate == "" {
		return nil
	}
	setting, err := f.client.fault()
	if err == nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) != missing || missing && setting == keySetting && !filepath.IsAbs(f.client.privateKey) {
		return nil
	}
	return []configs.Problem{problemAt(config, setting, err)}
}

// UnreadableFleet lists files and secrets of the fleet that are in their places, and that this process cannot read. That is a fault if it is the user
// that renews; others may check, too.
func UnreadableFleet(config *configs.Config) []Unreadable {
	f := fleetOf(config, &secrets{})
	if f == nil {
		return nil
	}
	var list []Unreadable
	try := func(setting, hint string, s configs.Secret) {
		if _, err := s.Read(); err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(string(s), "env:") {
			u := Unreadable{Problem: problemAt(config, setting, &clientError{setting: setting, text: err.Error(), hint: cmp.Or(hintOf(err), hint)})}
			if name, found := strings.CutPrefix(string(s), "cred:"); found {
				u.Credential = name
			}
			list = append(list, u)
		}
	}
	file := func(setting, hint, path string) {
		if path == "" {
			return
		}
		if _, err := readFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			list = append(list, Unreadable{Problem: problemAt(config, setting, &clientError{setting: setting, text: err.Error(), hint: hint})})
		}
	}
	try(identitySetting, identityHint, config.Fleet.Identity)
	file(rootsSetting, rootsHint, config.Fleet.Etcd.CAFile)
	file(certificateSetting, pairHint, config.Fleet.Etcd.Certificate)
	if key := config.Fleet.Etcd.PrivateKey; filepath.IsAbs(key) {
		file(keySetting, pairHint, key)
	} else if key != "" {
		try(keySetting, pairHint, configs.Secret(key))
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

// openError is the error about a secret that everybody can read: who has read it can take part in the fleet.
func openError(setting, path string) error {
	return &clientError{setting: setting, text: path + " can be read by everybody on this host", hint: "chown root:mxcert " + path + "; chmod 0640 " + path}
}

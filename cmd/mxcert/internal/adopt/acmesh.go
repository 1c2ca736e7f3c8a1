package adopt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// acmeShTree says where the files of acme.sh are. Usually all of them are below one directory.
type acmeShTree struct {
	certificates []string // directories with NAME (RSA) or NAME_ecc
	accounts     string   // directory with HOST/PATH
	elsewhere    string   // what the operator should name for the accounts; "" if they are where they should be
}

// fromAcmeSh reads the tree of acme.sh: NAME (RSA) or NAME_ecc with NAME.conf, NAME.key and fullchain.cer; ca/HOST/PATH. account.conf may
// name another place for the certificates, and acme.sh.env one for everything.
func fromAcmeSh(root, accounts string) ([]Foreign, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	tree := acmeShPlaces(root, accounts)
	var found []Foreign
	for _, dir := range tree.certificates {
		files, err := match(dir, "*/*.conf")
		if errors.Is(err, fs.ErrNotExist) && dir != root {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if strings.TrimSuffix(filepath.Base(filepath.Dir(file)), "_ecc") == acmeShName(file) {
				found = append(found, acmeShCertificate(tree, file))
			}
		}
	}
	return found, nil
}

func acmeShName(conf string) string { return strings.TrimSuffix(filepath.Base(conf), ".conf") }

// acmeShPlaces finds the directories of the tree to which root belongs. root may be only the CERT_HOME of an acme.sh that keeps its
// settings and accounts elsewhere: in accounts, in the directory above, or in the usual place if that says so.
func acmeShPlaces(root, accounts string) acmeShTree {
	home := root
	if env, err := readShell(filepath.Join(root, "acme.sh.env")); err == nil && isDir(env["LE_CONFIG_HOME"]) {
		home = env["LE_CONFIG_HOME"]
	}
	tree, whole := acmeShTree{certificates: []string{root}}, false
	switch above, usual := filepath.Dir(root), UsualPath(acmeSh); {
	case accounts != "":
		home = accounts
	case isDir(filepath.Join(home, "ca")) || acmeShCommon(home) != nil:
		whole = true
	case isDir(filepath.Join(above, "ca")):
		home = above
	case samePath(acmeShCommon(usual)["CERT_HOME"], root):
		home = usual
	default:
		tree.elsewhere = usual
	}
	common := acmeShCommon(home)
	for _, dir := range []string{home, common["CERT_HOME"]} {
		if whole && isDir(dir) && !slices.ContainsFunc(tree.certificates, func(known string) bool { return samePath(known, dir) }) {
			tree.certificates = append(tree.certificates, dir)
		}
	}
	tree.accounts = filepath.Join(home, "ca")
	if dir := common["CA_HOME"]; isDir(dir) {
		tree.accounts = dir
	}
	return tree
}

// acmeShCommon reads the settings for all certificates; nil if there are none.
func acmeShCommon(home string) map[string]string {
	common, err := readShell(filepath.Join(home, "account.conf"))
	if err != nil {
		return nil
	}
	return common
}

func acmeShCertificate(tree acmeShTree, conf string) Foreign {
	dir, name := filepath.Dir(conf), acmeShName(conf)
	f := Foreign{Source: dir, Name: name}
	settings, err := readShell(conf)
	if err != nil {
		f.Err = err
		return f
	}
	f.Directory = settings["Le_API"]
	if f.Chain, f.Err = read(filepath.Join(dir, "fullchain.cer")); f.Err != nil {
		return f
	}
	if f.Key, f.Err = read(filepath.Join(dir, name+".key")); f.Err != nil {
		return f
	}
	f.Issuer, _ = read(filepath.Join(dir, "ca.cer")) // needed only if the chain lacks it
	for way := range strings.SplitSeq(settings["Le_Webroot"], ",") {
		if plugin, ok := strings.CutPrefix(way, "dns_"); ok && !slices.Contains(f.Plugins, plugin) {
			f.Plugins = append(f.Plugins, plugin)
		}
	}
	if len(f.Plugins) > 1 && settings["Le_Domain"] != "" {
		f.Proofs = acmeShProofs(settings)
	}
	if way := settings["Le_Webroot"]; way != "" && len(f.Plugins) == 0 && way != "dns" {
		f.Notes = append(f.Notes, overHTTP("Le_Webroot = "+finding.Quote(way, finding.MostQuoted)))
	}
	f.acmeShHooks(settings, conf)
	f.acmeShCopies(settings)
	f.Account, err = acmeShAccount(tree, f.Directory)
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	return f
}

// acmeShHooks proposes scripts for the commands that acme.sh runs.
func (f *Foreign) acmeShHooks(settings map[string]string, conf string) {
	for _, hook := range [][2]string{{"Le_PreHook", "pre.d"}, {"Le_PostHook", "post.d"}, {"Le_RenewHook", "deploy.d"}, {"Le_ReloadCmd", "deploy.d"}} {
		command, ok := plainAcmeSh(settings[hook[0]])
		switch {
		case !ok:
			f.Notes = append(f.Notes, fmt.Sprintf("%s: the coded text in %s is damaged or cut short and cannot be read: look there, or ask acme.sh --info -d %s", hook[0], conf, f.Name))
		case command != "":
			f.Hooks = append(f.Hooks, hookOf(hook[0], command, hook[1])+", unless a unit in `deploy` does the same")
		}
	}
	if scripts := settings["Le_DeployHook"]; scripts != "" {
		f.Notes = append(f.Notes, fmt.Sprintf("Le_DeployHook = %s: a script of acme.sh that put the certificate in place; `deploy` does that in mxcert", finding.Quote(scripts, finding.MostQuoted)))
	}
	if chain, ok := plainAcmeSh(settings["Le_Preferred_Chain"]); ok && chain != "" {
		f.Notes = append(f.Notes, fmt.Sprintf("Le_Preferred_Chain = %s: set preferred_chain in the section acme to ask for the same chain", finding.Quote(chain, finding.MostQuoted)))
	}
	if alias := settings["Le_ChallengeAlias"]; alias != "" {
		f.Notes = append(f.Notes, fmt.Sprintf("Le_ChallengeAlias = %s: mxcert finds that by the CNAME at _acme-challenge", finding.Quote(alias, finding.MostQuoted)))
	}
}

// reloads finds the unit in a command that reloads or restarts it.
var reloads = regexp.MustCompile(`^\s*(?:sudo\s+)?(?:/\S*/)?(?:systemctl\s+(?:-\S+\s+)*(?:reload|restart|force-reload|try-restart|reload-or-restart|try-reload-or-restart)\s+([A-Za-z0-9@_.-]+)|service\s+([A-Za-z0-9@_.-]+)\s+\S+)\s*$`)

// acmeShCopies notes where acme.sh copies the certificate (--install-cert).
func (f *Foreign) acmeShCopies(settings map[string]string) {
	for _, copied := range [][2]string{{"Le_RealFullChainPath", "certificate and chain"}, {"Le_RealKeyPath", "key"}, {"Le_RealCertPath", "certificate without its chain"}, {"Le_RealCACertPath", "chain alone"}} {
		if path := settings[copied[0]]; path != "" {
			f.Notes = append(f.Notes, fmt.Sprintf("%s = %s: acme.sh copies the %s there; name it in `deploy` if a server reads it", copied[0], finding.Quote(path, finding.MostQuoted), copied[1]))
		}
	}
	f.Installed = Installed{Fullchain: settings["Le_RealFullChainPath"], Key: settings["Le_RealKeyPath"]}
	command, _ := plainAcmeSh(settings["Le_ReloadCmd"])
	if unit := reloads.FindStringSubmatch(command); unit != nil {
		f.Installed.Unit = strings.TrimSuffix(unit[1]+unit[2], ".service") + ".service"
	}
}

// plainAcmeSh decodes a value that acme.sh keeps as base64, between two marks. ok is false if a value has the first mark and cannot be
// decoded. Some base64 programs break lines.
func plainAcmeSh(value string) (plain string, ok bool) {
	text, coded := strings.CutPrefix(value, "__ACME_BASE64__START_")
	if !coded {
		return value, true
	}
	text, ok = strings.CutSuffix(strings.Join(strings.Fields(text), ""), "__ACME_BASE64__END_")
	decoded, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		return "", false
	}
	return string(decoded), true
}

// acmeShAccount reads the account at a CA: ca/HOST/PATH, after the URL of the CA's directory. acme.sh leaves the port out, and once left
// out the path.
func acmeShAccount(tree acmeShTree, directory string) (Account, error) {
	address := strings.TrimPrefix(directory, "https://")
	host, path, _ := strings.Cut(address, "/")
	name, _, _ := strings.Cut(host, ":")
	var first error
	for _, place := range []string{filepath.Join(name, path), address, name} {
		account, err := acmeShAccountAt(filepath.Join(tree.accounts, place))
		if err == nil {
			return account, nil
		}
		if first == nil {
			first = err
		}
	}
	if tree.elsewhere != "" {
		first = fmt.Errorf("%w; if this is only the CERT_HOME of acme.sh, name its own directory, which has account.conf and ca, too, such as --accounts %s", first, tree.elsewhere)
	}
	return Account{}, first
}

func acmeShAccountAt(dir string) (Account, error) {
	settings, err := readShell(filepath.Join(dir, "ca.conf"))
	if err != nil {
		return Account{}, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "account.key"))
	if err != nil {
		return Account{}, err
	}
	return Account{URL: settings["ACCOUNT_URL"], Email: settings["CA_EMAIL"], Key: key}, nil
}

package discover

import (
	"context"
	"fmt"
	"slices"

	"mxcert/deploy"
)

// advise returns what makes Exim read the targets. Root's Exim has tried it on a copy of its configuration.
func (e *exim) advise(ctx context.Context, targets []deploy.Target, wants [][]deploy.Pair) string {
	e.askFile(ctx)
	certificate, key := eximSettings(targets, wants)
	then := "update-exim4.conf && systemctl reload exim4"
	plan, file := changeDebian, macrosFile(debianSettings)
	if e.configFile != debianGenerated {
		plan, file, then = changeFile, e.configFile, e.program+" -bV && systemctl reload exim4"
	}
	change, err := plan(file, certificate, key)
	if err != nil || !slices.ContainsFunc(change.files, func(f *eximFile) bool { return f.exists }) || len(change.Files()) == 0 {
		return e.generally(file, certificate, key, then)
	}
	if result, said := e.try(ctx, change, certificate, key); result == refused {
		return fmt.Sprintf("%s (mxcert tried: %s. Exim's answer: %s)", e.generally(file, certificate, key, then), change.words(), quote(said))
	}
	return change.words() + "; then: " + then
}

// generally says which settings Exim needs, if the lines that make them are not known.
func (e *exim) generally(file, certificate, key, then string) string {
	if e.configFile != debianGenerated {
		set := []string{"tls_certificate = " + certificate}
		if key != "" {
			set = append(set, "tls_privatekey = "+key)
		}
		if file == "" {
			file = "Exim's configuration"
		}
		return fmt.Sprintf("set %s in %s, in the place of the lines there that set them now; then: %s", lines(set), file, then)
	}
	set := []string{combinedMacro + " = " + certificate}
	more := ""
	if key != "" {
		set = []string{certificateMacro + " = " + certificate, keyMacro + " = " + key}
		if e.certificate != "" && e.key == "" {
			more = " and remove " + combinedMacro + ", which wins over these"
		}
	}
	if e.certificate == "" {
		set = append([]string{enableMacro + " = yes"}, set...)
	}
	return fmt.Sprintf("set %s in %s%s; replace the lines that define them now, because Exim refuses a second definition (grep -rn MAIN_TLS /etc/exim4); then: %s", lines(set), file, more, then)
}

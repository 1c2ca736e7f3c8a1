package dnsprovider

import (
	"slices"
	"strings"
)

// Secret reports whether the value of a provider's variable must not be shown, nor stand in a configuration file. It is
// careful: a name that neither lego nor mxcert describes is secret, and so is every variable of an unknown provider,
// because its value is not known. The programs of exec and certbot-hook read such variables.
//
// Of the described ones, lego's descriptions know the credentials ([Variable.Credential]). A few of these are no secrets
// (see notSecret); and some passwords stand among the other settings there, such as HTTPREQ_PASSWORD: their names tell.
// NAME_FILE is never secret, since its value is a path; nor is a described NAME_PATH.
func Secret(provider, variable string) bool {
	if strings.HasSuffix(variable, "_FILE") || notSecret(variable) {
		return false
	}
	description, err := Describe(provider)
	if err != nil {
		return true
	}
	name := variable
	if short, old := strings.CutPrefix(variable, "RFC2136_"); old && canonical(provider) == "rfc2136" {
		name = "DNSUPDATE_" + short
	}
	i := slices.IndexFunc(description.Variables, func(v Variable) bool { return v.Name == name })
	if i >= 0 && namesPath(name) {
		return false
	}
	return i < 0 || description.Variables[i].Credential || soundsSecret(name)
}

// WarnSecret reports whether a warning is due if the value stands in a configuration file: as [Secret], but of an unknown provider,
// whose name is misspelt, only if the variable is called like a secret. The URL of PowerDNS' API may stand there; it is not shown, because
// somebody may have put a password into it.
func WarnSecret(provider, variable string) bool {
	if variable == "PDNS_API_URL" {
		return false
	}
	if _, err := Describe(provider); err != nil {
		return !strings.HasSuffix(variable, "_FILE") && !notSecret(variable) && soundsSecret(variable)
	}
	return Secret(provider, variable)
}

// namesPath reports whether the value of a variable is the path of a file, by its name.
func namesPath(variable string) bool {
	return strings.HasSuffix(variable, "_PATH") || strings.HasSuffix(variable, "_FILE") || variable == "AKAMAI_EDGERC"
}

// notSecret lists credentials of lego's descriptions that only say where, or by which name.
func notSecret(variable string) bool {
	switch variable {
	case "AWS_REGION", "HUAWEICLOUD_REGION", "OCI_REGION", "OVH_ENDPOINT",
		"DNSUPDATE_TSIG_KEY", "RFC2136_TSIG_KEY", // the name of the key
		"DNSUPDATE_TSIG_ALGORITHM", "RFC2136_TSIG_ALGORITHM":
		return true
	}
	return false
}

// soundsSecret looks for a word of the name that secrets have.
func soundsSecret(variable string) bool {
	return slices.ContainsFunc(strings.Split(variable, "_"), func(word string) bool {
		switch word {
		case "KEY", "APIKEY", "OTP", "PASS", "PASSPHRASE", "PASSWD", "PASSWORD", "PWD", "SECRET", "TOKEN":
			return true
		}
		return false
	})
}

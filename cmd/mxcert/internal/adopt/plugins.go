package adopt

import (
	"fmt"
	"strings"

	"mxcert/acme/finding"
)

// hookPlugin is the provider for scripts that were written for certbot.
const hookPlugin = "certbot-hook"

// provider returns mxcert's name for a DNS plugin of another client. Most plugins have the same name, perhaps with other separators.
func provider(plugin string) string {
	known := map[string]string{
		"acmedns": "acme-dns", "acmeproxy": "httpreq", "ad": "alwaysdata", "ali": "alidns", "anx": "anexia", "arvan": "arvancloud", "aurora": "auroradns",
		"aws": "route53", "azure": "azuredns", "baidu": "baiducloud", "cf": "cloudflare", "da": "directadmin", "dgon": "digitalocean", "doapi": "",
		"dp": "dnspod", "dnshome": "dnshomede", "gandi": "gandiv5", "gandi-livedns": "gandiv5", "gd": "godaddy", "google": "gcloud", "hetznercloud": "hetzner",
		"ionos-cloud": "ionoscloud", "jd": "jdcloud", "kas": "allinkl", "linode-v4": "linode", "lua": "luadns", "me": "dnsmadeeasy", "miab": "mailinabox",
		"multi": "", "mythic-beasts": "mythicbeasts", "namecom": "namedotcom", "nic": "nicru", "nsone": "ns1", "nsupdate": "rfc2136", "oci": "oraclecloud",
		"online": "onlinenet", "openstack": "designate", "pleskxml": "plesk", "powerdns": "pdns", "rcode0": "rcodezero", "schlundtech": "autodns",
		"selfhost": "selfhostde", "standalone": "", "tencent": "tencentcloud", "timeweb": "timewebcloud", "ultra": "ultradns", "west-cn": "westcn",
		"yc": "yandexcloud", "zone": "zoneee",
	}
	plugin = strings.ReplaceAll(plugin, "_", "-")
	if name, other := known[plugin]; other {
		return name
	}
	return plugin
}

// dnsLines is the part of a proposal about the DNS plugins of the other client. known reports whether this mxcert has a provider.
func dnsLines(f Foreign, known func(provider string) bool) string {
	if len(f.Proofs) > 0 {
		if lines := zoneLines(f, known); lines != "" {
			return lines
		}
	}
	var y strings.Builder
	if len(f.Plugins) > 1 {
		fmt.Fprintf(&y, "    # %s used %d DNS plugins: give each zone its provider in dns.zones\n", f.Client, len(f.Plugins))
	}
	for _, plugin := range f.Plugins {
		used := fmt.Sprintf("%s used its DNS plugin %s", f.Client, finding.Quote(plugin, finding.MostQuoted))
		if plugin == hookPlugin {
			used = "it runs the scripts that " + f.Client + " ran"
		}
		name := provider(plugin)
		if name != "" && known(name) {
			fmt.Fprintf(&y, "    # dns: {provider: %s}   # %s; `mxcert providers %[1]s` lists its variables\n", name, used)
			continue
		}
		fmt.Fprintf(&y, "    # %s; `mxcert providers` lists those of this mxcert\n", used)
	}
	return y.String()
}

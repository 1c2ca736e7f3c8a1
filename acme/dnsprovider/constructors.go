//go:build !allproviders

package dnsprovider

import (
	_ "embed"

	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"
	"github.com/go-acme/lego/v4/providers/dns/bunny"
	"github.com/go-acme/lego/v4/providers/dns/cloudflare"
	"github.com/go-acme/lego/v4/providers/dns/desec"
	"github.com/go-acme/lego/v4/providers/dns/digitalocean"
	"github.com/go-acme/lego/v4/providers/dns/dnsimple"
	"github.com/go-acme/lego/v4/providers/dns/domeneshop"
	"github.com/go-acme/lego/v4/providers/dns/dreamhost"
	"github.com/go-acme/lego/v4/providers/dns/duckdns"
	"github.com/go-acme/lego/v4/providers/dns/gandiv5"
	"github.com/go-acme/lego/v4/providers/dns/glesys"
	"github.com/go-acme/lego/v4/providers/dns/godaddy"
	"github.com/go-acme/lego/v4/providers/dns/hetzner"
	"github.com/go-acme/lego/v4/providers/dns/hostinger"
	"github.com/go-acme/lego/v4/providers/dns/httpreq"
	"github.com/go-acme/lego/v4/providers/dns/hurricane"
	"github.com/go-acme/lego/v4/providers/dns/infomaniak"
	"github.com/go-acme/lego/v4/providers/dns/inwx"
	"github.com/go-acme/lego/v4/providers/dns/ionos"
	"github.com/go-acme/lego/v4/providers/dns/joker"
	"github.com/go-acme/lego/v4/providers/dns/linode"
	"github.com/go-acme/lego/v4/providers/dns/loopia"
	"github.com/go-acme/lego/v4/providers/dns/luadns"
	"github.com/go-acme/lego/v4/providers/dns/namecheap"
	"github.com/go-acme/lego/v4/providers/dns/netcup"
	"github.com/go-acme/lego/v4/providers/dns/njalla"
	"github.com/go-acme/lego/v4/providers/dns/ovh"
	"github.com/go-acme/lego/v4/providers/dns/pdns"
	"github.com/go-acme/lego/v4/providers/dns/porkbun"
	"github.com/go-acme/lego/v4/providers/dns/regru"
	"github.com/go-acme/lego/v4/providers/dns/route53"
	"github.com/go-acme/lego/v4/providers/dns/scaleway"
	"github.com/go-acme/lego/v4/providers/dns/simply"
	"github.com/go-acme/lego/v4/providers/dns/transip"
	"github.com/go-acme/lego/v4/providers/dns/vultr"
)

//go:embed lego.json
var legoDescriptions []byte

// constructors is the table of lego's providers in this build: those that mail hosts use most and that link without a large SDK
// (route53 is the exception that is worth its size).
func constructors() map[string]constructor {
	return map[string]constructor{
		"acme-dns":     func() (challenge.Provider, error) { return acmedns.NewDNSProvider() },
		"bunny":        func() (challenge.Provider, error) { return bunny.NewDNSProvider() },
		"cloudflare":   func() (challenge.Provider, error) { return cloudflare.NewDNSProvider() },
		"desec":        func() (challenge.Provider, error) { return desec.NewDNSProvider() },
		"digitalocean": func() (challenge.Provider, error) { return digitalocean.NewDNSProvider() },
		"domeneshop":   func() (challenge.Provider, error) { return domeneshop.NewDNSProvider() },
		"dreamhost":    func() (challenge.Provider, error) { return dreamhost.NewDNSProvider() },
		"duckdns":      func() (challenge.Provider, error) { return duckdns.NewDNSProvider() },
		"gandiv5":      func() (challenge.Provider, error) { return gandiv5.NewDNSProvider() },
		"godaddy":      func() (challenge.Provider, error) { return godaddy.NewDNSProvider() },
		"hetzner":      func() (challenge.Provider, error) { return hetzner.NewDNSProvider() },
		"hostinger":    func() (challenge.Provider, error) { return hostinger.NewDNSProvider() },
		"httpreq":      func() (challenge.Provider, error) { return httpreq.NewDNSProvider() },
		"infomaniak":   func() (challenge.Provider, error) { return infomaniak.NewDNSProvider() },
		"inwx":         func() (challenge.Provider, error) { return inwx.NewDNSProvider() },
		"ionos":        func() (challenge.Provider, error) { return ionos.NewDNSProvider() },
		"joker":        func() (challenge.Provider, error) { return joker.NewDNSProvider() },
		"namecheap":    func() (challenge.Provider, error) { return namecheap.NewDNSProvider() },
		"netcup":       func() (challenge.Provider, error) { return netcup.NewDNSProvider() },
		"njalla":       func() (challenge.Provider, error) { return njalla.NewDNSProvider() },
		"ovh":          func() (challenge.Provider, error) { return ovh.NewDNSProvider() },
		"pdns":         func() (challenge.Provider, error) { return pdns.NewDNSProvider() },
		"porkbun":      func() (challenge.Provider, error) { return porkbun.NewDNSProvider() },
		"route53":      func() (challenge.Provider, error) { return route53.NewDNSProvider() },
		"simply":       func() (challenge.Provider, error) { return simply.NewDNSProvider() },
		"dnsimple":     func() (challenge.Provider, error) { return dnsimple.NewDNSProvider() },
		"linode":       func() (challenge.Provider, error) { return linode.NewDNSProvider() },
		"scaleway":     func() (challenge.Provider, error) { return scaleway.NewDNSProvider() },
		"transip":      func() (challenge.Provider, error) { return transip.NewDNSProvider() },
		"vultr":        func() (challenge.Provider, error) { return vultr.NewDNSProvider() },
		"glesys":       func() (challenge.Provider, error) { return glesys.NewDNSProvider() },
		"hurricane":    func() (challenge.Provider, error) { return hurricane.NewDNSProvider() },
		"loopia":       func() (challenge.Provider, error) { return loopia.NewDNSProvider() },
		"luadns":       func() (challenge.Provider, error) { return luadns.NewDNSProvider() },
		"regru":        func() (challenge.Provider, error) { return regru.NewDNSProvider() },
	}
}

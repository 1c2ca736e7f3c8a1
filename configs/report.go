package configs

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// checkReport checks where the page goes. mxcert replaces that file, so it must be no file that somebody needs.
func (l *loader) checkReport(c *Config) {
	const p = "report.html"
	page := c.Report.HTML
	if page == "" || l.touched[p] {
		return
	}
	if strings.HasSuffix(page, "/") && path.IsAbs(page) {
		l.bad(p, "name a file in it, such as "+path.Join(page, "index.html"), "%s is a directory, but the page is one file", quote(page))
		return
	}
	if l.checkPath(p, page); l.touched[p] || !path.IsAbs(page) || path.Clean(page) != page {
		return
	}
	directory, err := filepath.Abs(filepath.Dir(l.src.name))
	switch {
	case page == c.State || strings.HasPrefix(page, c.State+"/"):
		l.bad(p, "write it where a web server or a person reads it", "%s is inside the state directory, which only the service may read", quote(page))
	case err == nil && strings.HasPrefix(page, directory+"/") && strings.HasPrefix(directory, "/etc/"), strings.HasPrefix(page, "/etc/mxcert/"):
		l.bad(p, "write it elsewhere, such as /var/www/mxcert/index.html", "%s is among the files of the configuration", quote(page))
	case page == c.ACME.CAFile || page == c.ACME.RootsFile || page == c.CT.LogList || page == c.Metrics.Textfile || page == c.Metrics.WebConfig:
		l.bad(p, "give each a path of its own", "%s is also the file of another setting", quote(page))
	case slices.ContainsFunc(c.Notify, func(n Channel) bool {
		return page == n.Exec || page == n.Webhook.Body || page == n.Webhook.CAFile || page == n.Mail.Via.CAFile
	}):
		l.bad(p, "give each a path of its own", "%s is also the file of a channel", quote(page))
	default:
		l.checkPageAmongTargets(p, page, c)
	}
}

// checkPageAmongTargets refuses a page at, or inside, a path that a certificate is deployed to.
func (l *loader) checkPageAmongTargets(p, page string, c *Config) {
	for i, cert := range c.Certificates {
		for j, t := range cert.Deploy {
			for k, key := range cert.Keys {
				certificate, privateKey, combined := t.Paths(cert.Name, key, k)
				link := t.LinkPath(cert.Name, key)
				_, table, isTable := strings.Cut(t.SNIMap, ":")
				if !isTable {
					table = t.SNIMap
				}
				for _, file := range []string{certificate, privateKey, combined, link, table, t.OCSP} {
					if file != "" && (page == file || file == link && (strings.HasPrefix(page, link+"/") || strings.HasPrefix(page, link+".generations/"))) {
						where := join(at(join(at("certificates", i), "deploy"), j), t.Kind)
						l.bad(p, "give the page a path of its own", "mxcert writes a certificate to %s (%s)", quote(file), l.index.position(where))
						return
					}
				}
			}
		}
	}
}

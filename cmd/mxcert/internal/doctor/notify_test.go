package doctor

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"mxcert/acme/finding"
)

// Each channel is one finding: ready, not usable, or usable by the service alone. None keeps a certificate from being renewed.
func TestChannels(t *testing.T) {
	t.Parallel()
	h := desert(t)
	text, err := os.ReadFile(h.config)
	h.check(err)
	h.check(os.WriteFile(h.Path("page"), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	h.check(os.WriteFile(h.config, append(text, fmt.Appendf(nil, `notify:
  - {name: page, exec: %[1]s/page}
  - {name: lost, exec: %[1]s/lost}
  - {name: chat, webhook: {url: "file:%[1]s/url"}}
  - {name: roots, webhook: {url: "https://chat.example/x", ca_file: %[1]s/page}}
  - {name: relay, mail: {to: ops@elsewhere.example, via: {smtp: "127.0.0.1:1"}}}
`, h.Directory)...), 0o600))
	d := h.doctor()
	look := func(name string) []finding.Finding {
		c, ok := d.Runner.Host.Channel(name)
		if !ok {
			t.Fatalf("no channel %s", name)
		}
		return d.channel(c)(t.Context())
	}
	one(t, "a program that fails", look("page"), finding.OK, "page the channel page is ready (program "+h.Path("page")+")")
	one(t, "no program", look("lost"), finding.Warning, h.Path("lost")+" does not exist")
	one(t, "no secret", look("chat"), finding.Warning, "the channel chat cannot tell anybody (webhook, URL from file:"+h.Path("url"))
	one(t, "no roots", look("roots"), finding.Warning, "holds no PEM certificate")
	one(t, "offline", look("relay"), finding.OK, "mail to ops@elsewhere.example by 127.0.0.1:1")
	d.Online = true
	one(t, "online", look("relay"), finding.Warning, "the relay 127.0.0.1:1 does not answer")
	d.Held = "ask the service"
	one(t, "a secret of the service", look("chat"), finding.OK, "only the service can use the channel chat")
	one(t, "another fault", look("lost"), finding.Warning, "does not exist")
	for _, name := range []string{"page", "lost", "chat", "roots", "relay"} {
		if f := look(name)[0]; f.Subject != name || strings.Contains(f.Message, "https://chat.example") {
			t.Errorf("%+v", f)
		}
	}
}

package pass

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
	"mxcert/deploy/mx"
	"mxcert/deploy/served"
)

// probePatience and, for each owner, probeEach limit the handshakes with every address of every name, of which not all are made at once.
const (
	probePatience = 15 * time.Second
	probeEach     = time.Second
)

// probeIfNeeded asks every address of every name for its key, if something depends on it: before the first publication, because a set must
// not lack a key that some address serves, and before an old record is removed.
func (p *pass) probeIfNeeded(ctx context.Context) {
	t := p.tlsa
	needed := false
	for _, phase := range t.plan.Phases {
		needed = needed || phase == dane.Unprobed || phase == dane.Retiring
	}
	for _, roll := range t.state.Keys {
		needed = needed || roll != nil && len(roll.Retired) > 0
	}
	removes := t.settings.Mode == dane.Publish || t.settings.Mode == dane.ByHand || t.state.Leaving(t.settings)
	if !needed || !removes || len(p.seen) > 0 && !t.allSeen {
		return
	}
	if missing := p.probeAll(ctx); len(missing) > 0 {
		t.allSeen = false
		p.warn("no TLSA record is published or removed yet, because it is not known which key every address serves: " + strings.Join(missing, "; "))
		return
	}
	t.allSeen, t.probed = true, true // without an endpoint, the addresses are all there is
}

// bothKinds stand for the kinds of keys that a server may have.
func bothKinds() []bundle.KeyType { return []bundle.KeyType{bundle.EC256, bundle.RSA2048} }

// probeAll makes handshakes with every address of every owner, and says which could not be asked, or serve a key that is not ours and that
// the records would not name.
func (p *pass) probeAll(ctx context.Context) (missing []string) {
	ctx, cancel := context.WithTimeout(ctx, probePatience+time.Duration(len(p.tlsa.owners))*probeEach)
	defer cancel()
	own, err := mx.Own(p.want.PublicAddresses)
	if err != nil {
		return []string{err.Error()}
	}
	addresses := map[string][]netip.Addr{}
	for _, owner := range p.tlsa.owners {
		if _, asked := addresses[owner.Host]; asked {
			continue
		}
		v4, v6 := p.resolver.LookIPv4(ctx, owner.Host), p.resolver.LookIPv6(ctx, owner.Host)
		for _, err := range []*resolve.Error{v4.Err, v6.Err} {
			if err != nil {
				missing = append(missing, fmt.Sprintf("the addresses of %s: %s", owner.Host, report.OneLine(err.Error())))
			}
		}
		addresses[owner.Host] = slices.Concat(v4.Records, v6.Records)
	}
	var probes []served.Probe
	var owners []dane.Owner
	for _, owner := range p.tlsa.owners {
		for _, address := range addresses[owner.Host] {
			for i, key := range bothKinds() {
				probes = append(probes, served.Probe{Address: net.JoinHostPort(address.String(), strconv.Itoa(owner.Port)), ServerName: owner.Host, Key: string(key), Ask: served.Ask(bothKinds(), i)})
				owners = append(owners, owner)
			}
		}
	}
	return append(missing, p.judgeProbes(served.Look(ctx, probes), owners, own)...)
}

// judgeProbes takes what the addresses have shown: two results for each. An address of this host that cannot be reached from here, behind a
// NAT, has the endpoints to speak for it.
func (p *pass) judgeProbes(results []served.Result, owners []dane.Owner, own []netip.Addr) (missing []string) {
	t := p.tlsa
	for i := 0; i+1 < len(results); i += 2 {
		pair, owner := results[i:i+2], owners[i]
		t.noteServing(pair)
		answered, failed := pair[0].Shown != nil || pair[1].Shown != nil, pair[0].Err
		if answered {
			failed = nil
			if i := slices.IndexFunc(pair, served.Unclear); i >= 0 {
				failed = pair[i].Err
			}
		}
		if failed != nil && (answered || !isOwn(pair[0].Address, own) && !t.speaksFor(pair[0].Address)) {
			missing = append(missing, fmt.Sprintf("%s (%s): %s", pair[0].Address, owner.Host, report.OneLine(failed.Error())))
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func isOwn(address string, own []netip.Addr) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && (at.Addr().IsLoopback() || slices.Contains(own, at.Addr().Unmap()))
}

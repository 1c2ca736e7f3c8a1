package etcd

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"mxcert/acme/state/etcd/etcdtest"
)

// shortly is how long a fault lasts: often less than a lease, sometimes more.
func shortly() time.Duration { return 50*time.Millisecond + rand.N(1500*time.Millisecond) }

// troubles are what can happen to a cluster of three. Each ends before the next one begins.
func troubles() map[string]func(c *etcdtest.Cluster, victim, other *etcdtest.Member) {
	line := func(line *etcdtest.Line, fault func(*etcdtest.Line)) {
		fault(line)
		time.Sleep(shortly())
		line.Heal()
	}
	return map[string]func(c *etcdtest.Cluster, victim, other *etcdtest.Member){
		"restart": func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) {
			victim.Stop()
			time.Sleep(shortly())
			victim.Start()
		},
		"pause": func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) {
			victim.Pause()
			time.Sleep(shortly())
			victim.Resume()
		},
		"clients hang":    func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) { line(victim.Clients(), (*etcdtest.Line).Hang) },
		"clients dropped": func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) { line(victim.Clients(), (*etcdtest.Line).Drop) },
		"clients cut off": func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) { line(victim.Clients(), (*etcdtest.Line).Cut) },
		"peers hang":      func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) { line(victim.Peers(), (*etcdtest.Line).Hang) },
		"peers cut off":   func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) { line(victim.Peers(), (*etcdtest.Line).Cut) },
		"peers slow": func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) {
			line(victim.Peers(), func(l *etcdtest.Line) { l.Delay(100 * time.Millisecond) })
		},
		"quorum lost": func(c *etcdtest.Cluster, victim, other *etcdtest.Member) {
			victim.Stop()
			other.Stop()
			time.Sleep(shortly())
			c.Start(victim, other)
		},
		"quorum paused": func(_ *etcdtest.Cluster, victim, other *etcdtest.Member) {
			victim.Pause()
			other.Pause()
			time.Sleep(shortly())
			victim.Resume()
			other.Resume()
		},
	}
}

// trouble makes a number of troubles, one after the other.
func trouble(t *testing.T, c *etcdtest.Cluster, count int, more ...string) {
	t.Helper()
	all := troubles()
	all["kill"] = func(_ *etcdtest.Cluster, victim, _ *etcdtest.Member) {
		victim.Kill()
		time.Sleep(shortly())
		victim.Start()
	}
	all["all killed"] = func(c *etcdtest.Cluster, _, _ *etcdtest.Member) {
		for _, m := range c.Members {
			m.Kill()
		}
		c.Start(c.Members...)
	}
	names := more
	for name := range troubles() {
		names = append(names, name)
	}
	slices.Sort(names)
	for range count {
		order := rand.Perm(len(c.Members))
		all[names[rand.N(len(names))]](c, c.Members[order[0]], c.Members[order[1]])
		time.Sleep(rand.N(300 * time.Millisecond))
	}
}

// TestManyTroubles is TestHistories with members in processes of their own, which are killed and stopped, and with MXCERT_FAULTS troubles: make
// fleet.
func TestManyTroubles(t *testing.T) {
	faults, _ := strconv.Atoi(os.Getenv("MXCERT_FAULTS"))
	if faults == 0 {
		t.Skip("make fleet runs it")
	}
	cluster := etcdtest.StartProcesses(t, 3)
	const each = 10
	for done := 0; done < faults; done += each {
		for i, result := range playAll(t, cluster, 3, 3, false, func() { trouble(t, cluster, each, "kill", "kill", "all killed") }) {
			if result != porcupine.Ok {
				t.Errorf("after %d troubles, game %d: %s", done, i, result)
			}
		}
	}
}

package etcd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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

// playAll plays several games at once on one cluster, while something else happens to it, and says what became of each.
func playAll(t *testing.T, cluster *etcdtest.Cluster, games, faults int, unfenced bool, meanwhile func()) (results []porcupine.CheckResult) {
	t.Helper()
	list := make([]*game, games)
	var over atomic.Bool
	var playing sync.WaitGroup
	for i := range list {
		list[i] = newGame(t, cluster, fmt.Sprint("mx", i), faults, unfenced)
		list[i].enough = over.Load
		playing.Go(func() { list[i].play(t.Context()) })
	}
	meanwhile()
	over.Store(true)
	playing.Wait()
	operations, suffered, refused := 0, int64(0), int64(0)
	for _, g := range list {
		results = append(results, g.judge())
		operations += len(g.locked.operations) + len(g.free.operations)
		suffered, refused = suffered+g.suffered.Load(), refused+g.refused.Load()
	}
	t.Logf("%d games: %d operations, %d holders kept away, %d writes refused by the fence", games, operations, suffered, refused)
	if refused == 0 && !unfenced {
		t.Error("the fence refused nothing: this test sees nothing")
	}
	return results
}

// TestHistories: whatever keeps holders away, the fence lets only the last one write.
func TestHistories(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			cluster := etcdtest.Start(t, members)
			for i, result := range playAll(t, cluster, 3, 2, false, func() { trouble(t, cluster, members/3*4) }) {
				if result != porcupine.Ok {
					t.Errorf("game %d: %s", i, result)
				}
			}
		})
	}
}

// TestHistoriesWithoutFence: without the fence the same games are found to be wrong.
func TestHistoriesWithoutFence(t *testing.T) {
	t.Parallel()
	wrong := 0
	for _, result := range playAll(t, etcdtest.Start(t, 1), 3, 2, true, func() {}) {
		if result == porcupine.Illegal {
			wrong++
		}
	}
	if wrong == 0 {
		t.Error("no game was found to be wrong: the check sees nothing")
	}
}

// TestManyTroubles is TestHistories with members in processes of their own, which are killed and stopped, and with MXCERT_FAULTS troubles: 10, or
// more in make fleet.
func TestManyTroubles(t *testing.T) {
	faults, _ := strconv.Atoi(os.Getenv("MXCERT_FAULTS"))
	faults = max(faults, 10)
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

package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3"
)

// A watch that has nothing to tell looks like one that tells nothing any more. So each stream has to prove that it misses nothing. Its member is
// asked for progress, and answers that it has told everything up to a revision. It has to reach the one that the latest call of this store has seen.
// A stream without that proof within its member's share of the patience ends; the watch goes on at another member, after the last change that it has
// seen. So a silence ends within 45 s.
//
// A proof costs one request in 30 s for each watch. The member answers from its memory: it needs neither the disk nor the other
// members. 1,000 hosts with three watches each make 100 a second: of one core, about half a percent (etcd 3.4).

// proofTries is how often a member that is behind is asked within its share.
const proofTries = 3

// proof is the last, or the next one, of a stream.
type proof struct {
	timer  *time.Timer
	rest   time.Duration // until the next one, give or take an eighth: hosts do not ask together
	within time.Duration // how long one may take
	begun  bool          // the stream has begun: the first proof is about that
	given  bool          // there was one
	asked  bool          // it is under way
	need   int64         // up to which revision the member has to have told everything
	until  time.Time     // the end of the one that is under way
}

// newProof returns the first proof of a stream, which is under way: it begins.
func newProof(begins, within, rest time.Duration) *proof {
	p := &proof{within: within, rest: rest, asked: true, until: time.Now().Add(begins)}
	p.timer = time.NewTimer(begins)
	return p
}

// begin is told that the stream has begun, and up to which revision the member has to tell everything then.
func (p *proof) begin(need int64) {
	p.begun, p.need = true, need
	p.alive()
}

// told is told up to which revision the member has told everything.
func (p *proof) told(revision int64) {
	if p.asked && revision >= p.need {
		p.asked, p.given = false, true
		p.timer.Reset(p.rest - p.rest/8 + rand.N(p.rest/4))
	}
}

// alive is told that the stream begins, or that changes come: one that has much to tell is not silent.
func (p *proof) alive() {
	if p.asked {
		p.until = time.Now().Add(p.within)
		p.timer.Reset(p.within / proofTries)
	}
}

// prove asks the member for a proof, or ends the stream that has none in time.
func (w *watch) prove(ctx context.Context, stream etcdserverpb.Watch_WatchClient, p *proof) error {
	if p.asked && !time.Now().Before(p.until) {
		return w.missed(ctx, p)
	}
	if !p.asked {
		p.asked, p.need, p.until = true, max(w.revision, w.known(w.cluster)), time.Now().Add(p.within)
	}
	p.timer.Reset(p.within / proofTries)
	request := &etcdserverpb.WatchRequest_ProgressRequest{ProgressRequest: &etcdserverpb.WatchProgressRequest{}}
	return stream.Send(&etcdserverpb.WatchRequest{RequestUnion: request})
}

// count notes whether a stream was silent from its beginning. The next one has twice the time then: etcd may have to read much of what others have
// changed before it can say that there is nothing for this watch.
func (w *watch) count(p *proof, err error) {
	switch {
	case p.given:
		w.silent = 0
	case p.begun && errors.Is(err, errSilent):
		w.silent++
	}
}

// mostDoubled bounds that: the time between two proofs does it before.
const mostDoubled = 16

// missed returns errSilent, unless there is nothing to tell: etcd does not answer for progress before the first change after the stream began.
func (w *watch) missed(ctx context.Context, p *proof) error {
	if !p.begun {
		return errSilent
	}
	ctx, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	latest, err := w.latest(ctx)
	if err != nil || latest > w.revision {
		return errSilent
	}
	p.told(p.need)
	return nil
}

// latest returns the revision of the cluster, as its quorum has it.
func (l *link) latest(ctx context.Context) (revision int64, err error) {
	err = l.call(ctx, repeats, func(ctx context.Context, client *clientv3.Client) error {
		answer, err := client.Get(ctx, l.prefix, clientv3.WithKeysOnly())
		if err == nil {
			revision = answer.Header.Revision
		}
		return err
	})
	return revision, err
}

// known returns the revision that a cluster had in the latest answer to a call; 0 if that was of another one, or there is none. It is the latest
// and not the highest: a backup that is restored has a lower one.
func (l *link) known(cluster uint64) int64 {
	if h := l.heard.Load(); h != nil && h.ClusterId == cluster {
		return h.Revision
	}
	return 0
}

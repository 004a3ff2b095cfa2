package observe

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// inbox has the newest reports of all replicas in a leader's term. It has no
// lock and no clock of its own.
type inbox struct {
	epoch    uint64
	replicas map[string]*sender
	// outcomes are the results of requests that the replicas have reported, and
	// lives the processes of the replicas that reported them.
	outcomes *outcome.Book
	lives    map[string]life
}

// life is the newest process of a replica: processes of one name differ in
// their certificates.
type life struct {
	certificate string
	number      uint64
	// ended is when its Lease was gone, zero while it is there.
	ended time.Time
}

// remembered is how long the life of a replica without a Lease is kept.
const remembered = 2 * time.Hour

// sender is one replica and its reports.
type sender struct {
	certificate string
	// session and sequence of the newest message; session is 0 before the first.
	session, sequence uint64
	// lost is true from a missing message on until a full summary begins.
	lost bool
	// end closes the replica's stream, nil if none is open.
	end func()

	report Report
	// next is a full summary whose end has not come yet.
	next *Summary

	life uint64
	// counted is true once the stream has sent all outcomes. counts is a snapshot
	// of them whose end has not come yet.
	counted bool
	counts  *outcome.Message
}

// result is how a message was taken.
type result string

// The results of messages, values of a metric's label.
const (
	accepted  result = "accepted"
	duplicate result = "duplicate" // it was there before
	stale     result = "stale"     // it is of another term, or of a stream that another one has replaced
	missing   result = "missing"   // messages before it are lost: everything is needed once more
)

// Errors of open and apply.
var (
	errNotLive  = errors.New("there is no live Lease with this certificate")
	errReplaced = errors.New("the replica has opened a newer stream")
	errTooMany  = fmt.Errorf("a replica may report at most %d objects", maxObjects)
)

func newInbox(epoch uint64, began time.Time) *inbox {
	return &inbox{epoch: epoch, replicas: make(map[string]*sender), outcomes: outcome.NewBook(began), lives: make(map[string]life)}
}

// live sets which replicas there are. The inbox has an entry for each of them
// and no others.
func (i *inbox) live(replicas []Replica, now time.Time) {
	there := make(map[string]bool, len(replicas))
	for _, r := range replicas {
		there[r.Name] = true
		p := i.replicas[r.Name]
		if p != nil && p.certificate == r.Certificate {
			continue
		}
		// A replica that has restarted is another one, under the same name.
		p.close()
		i.replicas[r.Name] = &sender{
			certificate: r.Certificate, life: i.lived(r.Name, r.Certificate), report: Report{Replica: r.Name, Heard: now},
		}
		i.outcomes.Expect(r.Name, now)
	}
	for name, p := range i.replicas {
		if !there[name] {
			p.close()
			delete(i.replicas, name)
			i.outcomes.Gone(name, now)
			i.lives[name] = life{certificate: p.certificate, number: p.life, ended: now}
		}
	}
	maps.DeleteFunc(i.lives, func(_ string, l life) bool { return !l.ended.IsZero() && now.Sub(l.ended) > remembered })
}

// lived returns the number of a replica's life. A Lease that is gone for a
// while does not begin a new life.
func (i *inbox) lived(name, certificate string) uint64 {
	l := i.lives[name]
	if l.certificate != certificate {
		l.number++
	}
	i.lives[name] = life{certificate: certificate, number: l.number}
	return l.number
}

func (p *sender) close() {
	if p != nil && p.end != nil {
		p.end()
		p.end = nil
	}
}

// open begins a replica's stream, which end closes. An older stream of it is closed.
func (i *inbox) open(name, certificate string, session uint64, end func()) error {
	p := i.replicas[name]
	if p == nil || p.certificate != certificate {
		return errNotLive
	}
	if session <= p.session {
		return errReplaced
	}
	p.close()
	p.session, p.sequence, p.lost, p.next, p.end = session, 1, true, nil, end // the hello was the first
	p.counted, p.counts = false, nil
	return nil
}

// closed notes that a stream has ended. Its reports stay until they are too
// old.
func (i *inbox) closed(name string, session uint64) {
	if p := i.replicas[name]; p != nil && p.session == session {
		p.end = nil
	}
}

// apply applies a message of a stream.
func (i *inbox) apply(name string, session uint64, m *observev1.ReportRequest, now time.Time) (result, error) {
	p := i.replicas[name]
	switch {
	case p == nil || p.session != session || m.GetEpoch() != i.epoch:
		return stale, nil
	case m.GetSequence() <= p.sequence:
		return duplicate, nil
	}
	if m.GetSequence() != p.sequence+1 {
		p.lost, p.counted, p.counts = true, false, nil
	}
	p.sequence = m.GetSequence()
	p.report.Heard = now
	switch content := m.GetContent().(type) {
	case *observev1.ReportRequest_Summary:
		if p.counted {
			// Outcomes go first: there are no new ones.
			i.outcomes.Heard(name, now)
		}
		return p.applySummary(content.Summary)
	case *observev1.ReportRequest_Outcomes:
		return i.applyOutcomes(name, p, content.Outcomes, now)
	}
	return accepted, nil // a newer replica says what this leader does not know
}

// applySummary applies a message about objects and proxies.
func (p *sender) applySummary(s *observev1.Summary) (result, error) {
	if s.GetFull() {
		p.lost, p.next = false, &Summary{Objects: make(map[discovery.ObjectName]ObjectSummary, len(s.GetObjects()))}
	}
	if p.lost {
		p.next = nil
		return missing, nil
	}
	into := p.next
	if into == nil {
		into = &p.report.Summary
	}
	for _, n := range s.GetRemoved() {
		delete(into.Objects, nameFrom(n))
	}
	for _, o := range s.GetObjects() {
		if into.Objects[nameFrom(o.GetName())] = objectFrom(o); len(into.Objects) > maxObjects {
			return stale, errTooMany
		}
	}
	into.Proxies, into.Acknowledged, into.Gateways = int(s.GetProxies()), s.GetAcknowledged(), gatewaysFrom(s.GetGateways())
	if !s.GetMore() && p.next != nil {
		p.report.Summary, p.report.Known, p.next = *p.next, true, nil
	}
	return accepted, nil
}

// reports returns the newest report of each replica, by name. Its summaries are
// valid until the next call of another method.
func (i *inbox) reports() []Report {
	out := make([]Report, 0, len(i.replicas))
	for _, name := range slices.Sorted(maps.Keys(i.replicas)) {
		out = append(out, i.replicas[name].report)
	}
	return out
}

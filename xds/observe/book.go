package observe

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// book is what a leader has been told in its term, by replica. It has no lock
// and no clock of its own.
type book struct {
	epoch    uint64
	replicas map[string]*page
}

// page is what one replica has told.
type page struct {
	certificate string
	// session and sequence of the newest message; session is 0 before the first.
	session, sequence uint64
	// lost is true from a missing message on until a full summary begins.
	lost bool
	// end closes the replica's stream, nil if none is open.
	end func()

	report Report
	// next is a full summary of which the end is not there yet.
	next *Summary
}

// outcome is what becomes of a message.
type outcome string

// The outcomes of messages, values of a metric's label.
const (
	accepted  outcome = "accepted"
	duplicate outcome = "duplicate" // it was there before
	stale     outcome = "stale"     // it is of another term, or of a stream that another one has replaced
	missing   outcome = "missing"   // messages before it are lost: a full summary is needed
)

// Errors of open and apply.
var (
	errNotLive  = errors.New("there is no live Lease with this certificate")
	errReplaced = errors.New("the replica has opened a newer stream")
	errTooMany  = fmt.Errorf("a replica may report at most %d objects", maxObjects)
)

func newBook(epoch uint64) *book { return &book{epoch: epoch, replicas: make(map[string]*page)} }

// live says which replicas there are. The book is about those and no others.
func (b *book) live(replicas []Replica, now time.Time) {
	there := make(map[string]bool, len(replicas))
	for _, r := range replicas {
		there[r.Name] = true
		p := b.replicas[r.Name]
		if p != nil && p.certificate == r.Certificate {
			continue
		}
		// A replica that has restarted is another one, under the same name.
		p.close()
		b.replicas[r.Name] = &page{certificate: r.Certificate, report: Report{Replica: r.Name, Heard: now}}
	}
	for name, p := range b.replicas {
		if !there[name] {
			p.close()
			delete(b.replicas, name)
		}
	}
}

func (p *page) close() {
	if p != nil && p.end != nil {
		p.end()
		p.end = nil
	}
}

// open begins a replica's stream, which end closes. An older stream of it is closed.
func (b *book) open(name, certificate string, session uint64, end func()) error {
	p := b.replicas[name]
	if p == nil || p.certificate != certificate {
		return errNotLive
	}
	if session <= p.session {
		return errReplaced
	}
	p.close()
	p.session, p.sequence, p.lost, p.next, p.end = session, 1, true, nil, end // the hello was the first
	return nil
}

// closed notes that a stream has ended. What it told stays until it is too old.
func (b *book) closed(name string, session uint64) {
	if p := b.replicas[name]; p != nil && p.session == session {
		p.end = nil
	}
}

// apply takes a message of a stream.
func (b *book) apply(name string, session uint64, m *observev1.ReportRequest, now time.Time) (outcome, error) {
	p := b.replicas[name]
	switch {
	case p == nil || p.session != session || m.GetEpoch() != b.epoch:
		return stale, nil
	case m.GetSequence() <= p.sequence:
		return duplicate, nil
	}
	p.lost = p.lost || m.GetSequence() != p.sequence+1
	p.sequence = m.GetSequence()
	p.report.Heard = now
	s := m.GetSummary()
	if s == nil {
		return accepted, nil // a newer replica says what this leader does not know
	}
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
	into.Proxies, into.Acknowledged = int(s.GetProxies()), s.GetAcknowledged()
	if !s.GetMore() && p.next != nil {
		p.report.Summary, p.report.Known, p.next = *p.next, true, nil
	}
	return accepted, nil
}

// reports returns what is known of each replica, by name. Its summaries are
// valid until the next call of another method.
func (b *book) reports() []Report {
	out := make([]Report, 0, len(b.replicas))
	for _, name := range slices.Sorted(maps.Keys(b.replicas)) {
		out = append(out, b.replicas[name].report)
	}
	return out
}

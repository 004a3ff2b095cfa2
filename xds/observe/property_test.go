package observe

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// model is a mesh in which everything happens that may happen to reports: what
// is true is known, and the leader is told it by messages that get lost.
type model struct {
	r        *rand.Rand
	now      time.Time
	next     int // number of the next proxy
	want     map[discovery.ObjectName]int64
	replicas []*modelReplica
	leader   *modelLeader
	epochs   uint64
}

// modelReplica is a replica with its own snapshot.
type modelReplica struct {
	name, certificate string
	lives             int
	alive, leased     bool
	dies              time.Time // when the Lease of a dead one ends
	index             uint64
	objects           map[discovery.ObjectName]Object
	proxies           []*modelProxy
	// The stream to the leader, as the replica sees it.
	epoch, session, sequence uint64
	told                     *Summary
	open                     bool
}

// modelProxy remembers what it has been sent and has acknowledged.
type modelProxy struct {
	Proxy
	// owes are the generations that it was subscribed at and lacks.
	owes map[discovery.ObjectRef]bool
	// stuck ones acknowledge nothing for a while.
	stuck bool
}

type modelLeader struct {
	replica    *modelReplica
	inbox      *inbox
	conditions *conditions
}

func newModel(seed uint64) *model {
	m := &model{r: rand.New(rand.NewPCG(seed, 11)), now: at(0), want: make(map[discovery.ObjectName]int64)}
	for i := range 3 {
		m.replicas = append(m.replicas, &modelReplica{name: string(rune('a' + i)), objects: make(map[discovery.ObjectName]Object)})
		m.start(m.replicas[i])
	}
	m.elect(m.replicas[0])
	return m
}

func (m *model) start(r *modelReplica) {
	r.lives++
	*r = modelReplica{
		name: r.name, lives: r.lives, certificate: fmt.Sprint(r.name, r.lives), alive: true, leased: true,
		objects: make(map[discovery.ObjectName]Object),
	}
	for name := range m.want {
		m.compile(r, name)
	}
}

func (m *model) elect(r *modelReplica) {
	m.epochs++
	m.leader = &modelLeader{replica: r, inbox: newInbox(m.epochs, m.now), conditions: newConditions(m.now, make(chan struct{}, 1))}
}

// compile brings the newest generation of an object into a replica's snapshot.
func (m *model) compile(r *modelReplica, name discovery.ObjectName) {
	generation := m.want[name]
	if r.objects[name].Generation == generation {
		return
	}
	// Some change nothing that proxies see.
	if m.r.IntN(4) > 0 || r.index == 0 {
		r.index++
	}
	r.objects[name] = Object{Name: name, Generation: generation, Index: r.index, Since: m.now}
	for _, p := range r.proxies {
		if p.Acknowledged < r.index {
			p.owes[discovery.ObjectRef{Kind: name.Kind, Key: name.Key, Generation: generation}] = true
		}
	}
}

func (m *model) step() {
	m.now = m.now.Add(time.Duration(m.r.IntN(700)) * time.Millisecond)
	r := m.replicas[m.r.IntN(len(m.replicas))]
	switch m.r.IntN(14) {
	case 0:
		name := route(fmt.Sprint(m.r.IntN(4)))
		m.want[name]++
	case 1, 2, 3:
		for name := range m.want {
			if r.alive && m.r.IntN(2) == 0 {
				m.compile(r, name)
			}
		}
	case 4:
		if r.alive {
			m.next++
			r.proxies = append(r.proxies, &modelProxy{
				Proxy: Proxy{Node: fmt.Sprint("p", m.next), Joined: r.index, Connected: m.now}, owes: make(map[discovery.ObjectRef]bool),
				stuck: m.r.IntN(4) == 0,
			})
		}
	case 5, 6, 7:
		for _, p := range r.proxies {
			if !p.stuck && m.r.IntN(2) == 0 {
				p.acknowledge(p.Acknowledged + m.r.Uint64N(r.index-p.Acknowledged+1))
				if p.Acknowledged == r.index {
					clear(p.owes)
				}
			}
		}
	case 8:
		r.proxies = slices.DeleteFunc(r.proxies, func(*modelProxy) bool { return m.r.IntN(4) == 0 })
	case 9:
		for _, p := range r.proxies {
			p.stuck = m.r.IntN(4) == 0
		}
	case 10:
		r.open = false // the link breaks
	case 11:
		switch {
		case r.alive && r != m.leader.replica && m.r.IntN(3) == 0:
			r.alive, r.open, r.proxies, r.dies = false, false, nil, m.now.Add(10*time.Second)
		case !r.alive && m.r.IntN(2) == 0:
			m.start(r)
		}
	case 12:
		if r.alive && m.r.IntN(4) == 0 {
			m.elect(r)
		}
	}
	m.talk(m.r.IntN(3) > 0)
	m.update()
}

func (p *modelProxy) acknowledge(index uint64) { p.Acknowledged = max(p.Acknowledged, index) }

// talk carries messages; where all is false some replicas say nothing and some
// messages are lost, doubled or late.
func (m *model) talk(all bool) {
	b := m.leader.inbox
	var live []Replica
	for _, r := range m.replicas {
		if !r.alive && m.now.After(r.dies) {
			r.leased = false
		}
		if r.leased && r != m.leader.replica {
			live = append(live, Replica{Name: r.name, Certificate: r.certificate})
		}
	}
	b.live(live, m.now)
	for _, r := range m.replicas {
		if !r.alive || r == m.leader.replica || (!all && m.r.IntN(2) == 0) {
			continue
		}
		if !r.open || r.epoch != b.epoch {
			r.session++
			if b.open(r.name, r.certificate, r.session, func() {}) != nil {
				continue
			}
			r.open, r.epoch, r.sequence, r.told = true, b.epoch, 1, nil
		}
		s := Summarize(r.local())
		summaries := messages(r.told, &s)
		if len(summaries) == 0 {
			summaries = []*observev1.Summary{{Proxies: uint32(s.Proxies), Acknowledged: s.Acknowledged}} //nolint:gosec // small
		}
		for _, text := range summaries {
			r.sequence++
			message := &observev1.ReportRequest{Epoch: r.epoch, Sequence: r.sequence, Content: &observev1.ReportRequest_Summary{Summary: text}}
			if !all && m.r.IntN(5) == 0 {
				continue
			}
			o, err := b.apply(r.name, r.session, message, m.now)
			if err != nil || o == stale {
				panic(fmt.Sprint(o, err))
			}
			if o == missing {
				s.Objects = nil // so that everything is told the next time
				break
			}
			if m.r.IntN(5) == 0 {
				_, _ = b.apply(r.name, r.session, message, m.now)
			}
		}
		r.told = &s
		if s.Objects == nil {
			r.told = nil
		}
	}
}

func (r *modelReplica) local() Local {
	out := Local{Index: r.index}
	for _, o := range r.objects {
		out.Objects = append(out.Objects, o)
	}
	for _, p := range r.proxies {
		out.Proxies = append(out.Proxies, p.Proxy)
	}
	return out
}

func (m *model) update() {
	own := m.leader.replica.local()
	targets := make([]Target, len(own.Objects))
	for i, o := range own.Objects {
		targets[i] = Target{Name: o.Name, Generation: o.Generation, Since: o.Since}
	}
	reports := append(m.leader.inbox.reports(), Report{Replica: m.leader.replica.name, Known: true, Heard: m.now, Summary: Summarize(own)})
	m.leader.conditions.update(targets, reports, m.now)
}

// wrong returns how the conditions contradict what is true.
func (m *model) wrong() string {
	for name, c := range m.leader.conditions.all() {
		if c.Status != metav1.ConditionTrue {
			continue
		}
		ref := discovery.ObjectRef{Kind: name.Kind, Key: name.Key, Generation: c.ObservedGeneration}
		for _, r := range m.replicas {
			for _, p := range r.proxies {
				if p.owes[ref] && p.Acknowledged < r.objects[name].Index && r.objects[name].Generation == ref.Generation {
					return fmt.Sprintf("%v is True, but %s of replica %s lacks it", ref, p.Node, r.name)
				}
			}
			if r.alive && r.objects[name].Generation < ref.Generation {
				return fmt.Sprintf("%v is True, but replica %s has generation %d", ref, r.name, r.objects[name].Generation)
			}
		}
	}
	return ""
}

// heal ends all faults and lets time pass.
func (m *model) heal() {
	for _, r := range m.replicas {
		if !r.alive {
			m.start(r)
		}
		for name := range m.want {
			m.compile(r, name)
		}
		m.next++
		r.proxies = append(r.proxies, &modelProxy{Proxy: Proxy{Node: fmt.Sprint("p", m.next), Joined: r.index, Connected: m.now}, owes: make(map[discovery.ObjectRef]bool)})
		for _, p := range r.proxies {
			p.acknowledge(r.index)
			clear(p.owes)
		}
	}
	for range 3 { // a hello, what is missing, all of it
		m.now = m.now.Add(time.Second)
		m.talk(true)
		m.update()
	}
}

// However proxies, replicas, leaders and messages come and go, no generation is
// said to be in force while a proxy that was subscribed lacks it; and once
// nothing more happens every generation is.
func TestNeverTrueWhileAProxyLacksIt(t *testing.T) {
	seeds := uint64(150)
	if os.Getenv("CAUSEWAY_SOAK") != "" {
		seeds = 20_000
	}
	sure := 0
	for seed := range seeds {
		m := newModel(seed)
		for i := range 150 {
			m.step()
			require.Empty(t, m.wrong(), "seed %d, step %d", seed, i)
			for _, c := range m.leader.conditions.all() {
				if c.Status == metav1.ConditionTrue {
					sure++
				}
			}
		}
		m.heal()
		conditions := m.leader.conditions.all()
		require.Len(t, conditions, len(m.want), "seed %d", seed)
		for name, c := range conditions {
			require.Equal(t, ReasonProgrammed, c.Reason, "seed %d: %s: %+v", seed, name, c)
			require.Equal(t, m.want[name], c.ObservedGeneration)
		}
	}
	require.Greater(t, sure, int(seeds)*10, "it would be easy to say nothing") //nolint:gosec // small
}

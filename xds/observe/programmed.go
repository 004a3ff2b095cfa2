package observe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Reasons of the condition Programmed.
const (
	// ReasonProgrammed: every proxy that was connected when the generation went
	// out has acknowledged it or a newer one.
	ReasonProgrammed = "Programmed"
	// ReasonPending: the generation is on its way.
	ReasonPending = "Pending"
	// ReasonNoProxies: no proxy is connected, so nothing is known.
	ReasonNoProxies = "NoProxies"
	// ReasonReplicaSilent: a replica with a live Lease does not report, so
	// nothing is known of its proxies.
	ReasonReplicaSilent = "ReplicaSilent"
	// ReasonProxiesBehind: proxies have not acknowledged it in time.
	ReasonProxiesBehind = "ProxiesBehind"
	// ReasonReplicaBehind: a replica has not read it, or not compiled it, in time.
	ReasonReplicaBehind = "ReplicaBehind"
	// ReasonRejected: a proxy has refused it.
	ReasonRejected = "Rejected"
	// ReasonHeldBack: it waits for another object's mistake to be mended.
	ReasonHeldBack = "HeldBack"
)

// Target is the generation of an object whose condition is computed.
type Target struct {
	Name       discovery.ObjectName
	Generation int64
	// Since is when this replica compiled the generation, or last found it in
	// force: Patience runs from then.
	Since time.Time
}

// Report is what the leader knows about one live replica.
type Report struct {
	Replica string
	// Known is true once the replica has reported.
	Known bool
	// Heard is when the leader last heard from it. Before the first report it
	// is when the leader began to wait for it.
	Heard   time.Time
	Summary Summary
}

// silent reports whether a replica has said nothing for too long.
func (r *Report) silent(now time.Time) bool { return now.Sub(r.Heard) >= Patience }

// ProgrammedCondition returns the condition Programmed of a generation: whether
// it is in force on the proxies of all live replicas. reports has one entry for
// each replica, the leader's own included. The condition has no transition
// time. Its message does not change with the number of proxies that come and
// go.
func ProgrammedCondition(t Target, reports []Report, now time.Time) metav1.Condition {
	j := programmed{target: t, now: now}
	for i := range reports {
		j.add(&reports[i])
	}
	status, reason, message := j.condition()
	return metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: status, Reason: reason, Message: message,
		ObservedGeneration: t.Generation,
	}
}

// programmed gathers what the replicas report about one generation.
type programmed struct {
	target Target
	now    time.Time

	proxies int
	// seen is true if a connected proxy is known to have the generation.
	seen bool
	// refusal is the first replica's, by name, that has one.
	refusal   *Refusal
	refusedAt string
	laggards  int
	nodes     []string
	// awaited are the replicas that have not reported yet, mute those that have
	// been silent for too long.
	awaited, mute []string
	// behind are the replicas that have an older generation, staged those that
	// have it but not in force.
	behind, staged []string
	// newer is true if a replica has a later generation on its way.
	newer bool
}

func (p *programmed) add(r *Report) {
	switch {
	case r.silent(p.now):
		p.mute = append(p.mute, r.Replica)
		return
	case !r.Known:
		p.awaited = append(p.awaited, r.Replica)
		return
	}
	proxies, acknowledged := r.Summary.concerned(p.target.Name)
	p.proxies += proxies
	o, ok := r.Summary.Objects[p.target.Name]
	switch {
	case !ok || o.Generation < p.target.Generation:
		p.behind = append(p.behind, r.Replica)
	case o.State == Acknowledged:
		p.seen = p.seen || (proxies > 0 && acknowledged >= o.Index)
	case o.Generation > p.target.Generation:
		// The leader will read that generation soon. Its state says nothing about this
		// one.
		p.newer = true
	case o.State == Refused:
		if p.refusal == nil || r.Replica < p.refusedAt {
			p.refusal, p.refusedAt = o.Refusal, r.Replica
		}
	case o.Laggards > 0:
		p.laggards += o.Laggards
		p.nodes = append(p.nodes, o.Nodes...)
	default:
		p.staged = append(p.staged, r.Replica)
	}
}

// concerned returns how many proxies must have an object, for a Gateway its own and
// for every other kind all, and the greatest index that one of them has
// acknowledged.
func (s *Summary) concerned(o discovery.ObjectName) (proxies int, acknowledged uint64) {
	if o.Kind != discovery.KindGateway {
		return s.Proxies, s.Acknowledged
	}
	if g := s.Gateways[o.Key]; g != nil {
		return g.Proxies, g.Acknowledged
	}
	return 0, 0
}

// condition returns the status of the condition. A known failure comes first,
// then what is not known, then True.
func (p *programmed) condition() (status metav1.ConditionStatus, reason, message string) {
	waited := p.now.Sub(p.target.Since) >= Patience
	pending := "it is on its way to the proxies"
	switch {
	case p.refusal != nil:
		reason, message = p.refusal.text()
		return metav1.ConditionFalse, reason, message
	case waited && p.laggards > 0:
		return metav1.ConditionFalse, ReasonProxiesBehind, fmt.Sprintf(
			"%s not acknowledged it for %s: %s; see `causeway proxies`", counted(p.laggards, "proxy has", "proxies have"), Patience, p.laggardNames())
	case len(p.mute) > 0:
		return metav1.ConditionUnknown, ReasonReplicaSilent, fmt.Sprintf(
			"nothing is known of the proxies of %s, which %s not reported for %s; see that replica's log",
			list(p.mute), plural(len(p.mute), "has", "have"), Patience)
	case waited && len(p.behind) > 0:
		return metav1.ConditionFalse, ReasonReplicaBehind, fmt.Sprintf(
			"%s %s not read it for %s: see whether Kubernetes answers there", list(p.behind), plural(len(p.behind), "has", "have"), Patience)
	case waited && len(p.staged) > 0:
		return metav1.ConditionFalse, ReasonReplicaBehind, fmt.Sprintf(
			"%s %s not brought it into force for %s: see that replica's log", list(p.staged), plural(len(p.staged), "has", "have"), Patience)
	case len(p.awaited) > 0:
		return metav1.ConditionUnknown, ReasonPending, fmt.Sprintf("waiting for the first report of %s", list(p.awaited))
	case p.laggards > 0 || len(p.behind) > 0 || len(p.staged) > 0 || p.newer:
		return metav1.ConditionUnknown, ReasonPending, pending
	case p.proxies == 0 && p.target.Name.Kind == discovery.KindGateway:
		return metav1.ConditionUnknown, ReasonNoProxies, "no proxy of the Gateway is connected: start one with `causeway bootstrap --role gateway`"
	case p.proxies == 0:
		return metav1.ConditionUnknown, ReasonNoProxies, "no proxy is connected"
	case !p.seen:
		return metav1.ConditionUnknown, ReasonPending, "no proxy that is connected has acknowledged its first configuration yet"
	}
	return metav1.ConditionTrue, ReasonProgrammed, "in force on every proxy that was connected when this generation went out"
}

func (r *Refusal) text() (reason, message string) {
	after := "; proxies that refuse it are without it, the others have it"
	if r.Held {
		after = "; the last good configuration stays in force for proxies like it"
	}
	if r.Resource == "" {
		return ReasonHeldBack, "held back with the last good configuration, because a proxy refused what it is part of: see `causeway proxies`"
	}
	refused := fmt.Sprintf("%s refused %s: %s", r.Node, r.Resource, r.Error)
	if r.Culprit != "" {
		return ReasonHeldBack, fmt.Sprintf("held back until %s is mended: %s%s", r.Culprit, refused, after)
	}
	return ReasonRejected, refused + after
}

func (p *programmed) laggardNames() string {
	slices.Sort(p.nodes)
	nodes := slices.Compact(p.nodes)
	if len(nodes) > maxNames {
		nodes = nodes[:maxNames]
	}
	text := strings.Join(nodes, ", ")
	if more := p.laggards - len(nodes); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// list names replicas in order, the first few of them.
func list(names []string) string {
	names = slices.Sorted(slices.Values(names))
	most := min(len(names), maxNames)
	text := "replica " + strings.Join(names[:most], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func counted(n int, one, many string) string { return fmt.Sprintf("%d %s", n, plural(n, one, many)) }

// generationOf names an object with its generation.
func generationOf(r discovery.ObjectRef) string {
	name := discovery.ObjectName{Kind: r.Kind, Key: r.Key}
	return fmt.Sprintf("%s (generation %d)", name, r.Generation)
}

func compareNames(a, b discovery.ObjectName) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Key.Name, b.Key.Name))
}

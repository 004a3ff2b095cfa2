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
	// ReasonPending: it is on its way.
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

// Target is the generation of an object that is judged.
type Target struct {
	Name       discovery.ObjectName
	Generation int64
	// Since is when the judging replica compiled the generation, or when it was
	// last sure of it: Patience runs from then.
	Since time.Time
}

// Report is what the judge knows of one live replica.
type Report struct {
	Replica string
	// Known is true once the replica has reported.
	Known bool
	// Heard is when it was last heard of or, before the first time, when it
	// was first waited for.
	Heard   time.Time
	Summary Summary
}

// silent reports whether a replica has said nothing for too long.
func (r *Report) silent(now time.Time) bool { return now.Sub(r.Heard) >= Patience }

// Judge says whether a generation is in force on the proxies of all live
// replicas. reports has one entry for each of them, the judge's own replica
// included. The condition has no transition time; its message changes only if
// what it says does, not with how many proxies come and go.
func Judge(t Target, reports []Report, now time.Time) metav1.Condition {
	j := judgement{target: t, now: now}
	for i := range reports {
		j.hear(&reports[i])
	}
	status, reason, message := j.verdict()
	return metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: status, Reason: reason, Message: message,
		ObservedGeneration: t.Generation,
	}
}

// judgement gathers what the replicas say of one generation.
type judgement struct {
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
	// Replicas that have not reported yet, and those that say nothing for too long.
	awaited, mute []string
	// Replicas that have an older generation, or have it but not in force.
	behind, staged []string
	// newer is true if a replica has a later generation on its way.
	newer bool
}

func (j *judgement) hear(r *Report) {
	switch {
	case r.silent(j.now):
		j.mute = append(j.mute, r.Replica)
		return
	case !r.Known:
		j.awaited = append(j.awaited, r.Replica)
		return
	}
	proxies, acknowledged := r.Summary.concerned(j.target.Name)
	j.proxies += proxies
	o, ok := r.Summary.Objects[j.target.Name]
	switch {
	case !ok || o.Generation < j.target.Generation:
		j.behind = append(j.behind, r.Replica)
	case o.State == Acknowledged:
		j.seen = j.seen || (proxies > 0 && acknowledged >= o.Index)
	case o.Generation > j.target.Generation:
		// The judge will read that one soon. What becomes of it says nothing of this one.
		j.newer = true
	case o.State == Refused:
		if j.refusal == nil || r.Replica < j.refusedAt {
			j.refusal, j.refusedAt = o.Refusal, r.Replica
		}
	case o.Laggards > 0:
		j.laggards += o.Laggards
		j.nodes = append(j.nodes, o.Nodes...)
	default:
		j.staged = append(j.staged, r.Replica)
	}
}

// concerned returns how many proxies an object concerns, a Gateway its own and every
// other kind all, and the greatest index that one of them has acknowledged.
func (s *Summary) concerned(o discovery.ObjectName) (proxies int, acknowledged uint64) {
	if o.Kind != discovery.KindGateway {
		return s.Proxies, s.Acknowledged
	}
	if g := s.Gateways[o.Key]; g != nil {
		return g.Proxies, g.Acknowledged
	}
	return 0, 0
}

// verdict is what is known to be wrong, or else what is not known, or else True.
func (j *judgement) verdict() (status metav1.ConditionStatus, reason, message string) {
	waited := j.now.Sub(j.target.Since) >= Patience
	pending := "it is on its way to the proxies"
	switch {
	case j.refusal != nil:
		reason, message = j.refusal.text()
		return metav1.ConditionFalse, reason, message
	case waited && j.laggards > 0:
		return metav1.ConditionFalse, ReasonProxiesBehind, fmt.Sprintf(
			"%s not acknowledged it for %s: %s; see `causeway proxies`", counted(j.laggards, "proxy has", "proxies have"), Patience, j.laggardNames())
	case len(j.mute) > 0:
		return metav1.ConditionUnknown, ReasonReplicaSilent, fmt.Sprintf(
			"nothing is known of the proxies of %s, which %s not reported for %s; see that replica's log",
			list(j.mute), plural(len(j.mute), "has", "have"), Patience)
	case waited && len(j.behind) > 0:
		return metav1.ConditionFalse, ReasonReplicaBehind, fmt.Sprintf(
			"%s %s not read it for %s: see whether Kubernetes answers there", list(j.behind), plural(len(j.behind), "has", "have"), Patience)
	case waited && len(j.staged) > 0:
		return metav1.ConditionFalse, ReasonReplicaBehind, fmt.Sprintf(
			"%s %s not brought it into force for %s: see that replica's log", list(j.staged), plural(len(j.staged), "has", "have"), Patience)
	case len(j.awaited) > 0:
		return metav1.ConditionUnknown, ReasonPending, fmt.Sprintf("waiting for the first report of %s", list(j.awaited))
	case j.laggards > 0 || len(j.behind) > 0 || len(j.staged) > 0 || j.newer:
		return metav1.ConditionUnknown, ReasonPending, pending
	case j.proxies == 0 && j.target.Name.Kind == discovery.KindGateway:
		return metav1.ConditionUnknown, ReasonNoProxies, "no proxy of the Gateway is connected: start one with `causeway bootstrap --role gateway`"
	case j.proxies == 0:
		return metav1.ConditionUnknown, ReasonNoProxies, "no proxy is connected"
	case !j.seen:
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

func (j *judgement) laggardNames() string {
	slices.Sort(j.nodes)
	nodes := slices.Compact(j.nodes)
	if len(nodes) > maxNames {
		nodes = nodes[:maxNames]
	}
	text := strings.Join(nodes, ", ")
	if more := j.laggards - len(nodes); more > 0 {
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

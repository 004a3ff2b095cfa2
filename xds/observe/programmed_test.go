package observe

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// said is a report of a replica with one proxy that has everything, about one object.
func said(replica string, o ObjectSummary, change ...func(*Report)) Report {
	r := Report{Replica: replica, Known: true, Heard: at(100), Summary: Summary{
		Proxies: 1, Acknowledged: 50, Objects: map[discovery.ObjectName]ObjectSummary{route("r"): o},
	}}
	for _, f := range change {
		f(&r)
	}
	return r
}

func TestProgrammedCondition(t *testing.T) {
	silent := func(r *Report) { r.Heard = at(89) }
	unknown := func(r *Report) { r.Known, r.Summary = false, Summary{} }
	empty := func(r *Report) { r.Summary.Proxies, r.Summary.Acknowledged = 0, 0 }
	without := func(r *Report) { r.Summary.Objects = nil }
	fresh := func(r *Report) { r.Summary.Acknowledged = 4 }
	has := ObjectSummary{Generation: 3, State: Acknowledged, Index: 5}
	newer := ObjectSummary{Generation: 4, State: Acknowledged, Index: 5}
	lags := ObjectSummary{Generation: 3, State: Pending, Index: 5, Laggards: 7, Nodes: []string{"c", "d", "e", "f", "g"}}
	one := ObjectSummary{Generation: 3, State: Pending, Index: 5, Laggards: 1, Nodes: []string{"b"}}
	staged := ObjectSummary{Generation: 3, State: Pending}
	older := ObjectSummary{Generation: 2, State: Acknowledged, Index: 5}
	refused := ObjectSummary{Generation: 3, State: Refused, Refusal: &Refusal{Resource: "CDS a", Node: "n", Error: "bad", Held: true}}
	heldBack := ObjectSummary{Generation: 3, State: Refused, Refusal: &Refusal{Resource: "CDS a", Node: "n", Error: "bad", Held: true, Culprit: "HTTPRoute web/x (generation 2)"}}
	const (
		yes = metav1.ConditionTrue
		no  = metav1.ConditionFalse
		who = metav1.ConditionUnknown
	)
	for name, c := range map[string]struct {
		reports []Report
		age     float64
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		"in force":                       {[]Report{said("a", has)}, 60, yes, "Programmed", "in force on every proxy"},
		"in force on two replicas":       {[]Report{said("a", has), said("b", has)}, 1, yes, "Programmed", ""},
		"a newer one is in force there":  {[]Report{said("a", has), said("b", newer)}, 60, yes, "Programmed", ""},
		"the other has no proxies":       {[]Report{said("a", has), said("b", has, empty)}, 60, yes, "Programmed", ""},
		"no proxies":                     {[]Report{said("a", has, empty), said("b", has, empty)}, 60, who, "NoProxies", "no proxy is connected"},
		"only one that has just come":    {[]Report{said("a", has, fresh)}, 60, who, "Pending", "first configuration"},
		"on its way":                     {[]Report{said("a", has), said("b", lags)}, 9.9, who, "Pending", "on its way"},
		"not in time":                    {[]Report{said("a", one), said("b", lags)}, 10, no, "ProxiesBehind", "8 proxies have not acknowledged it for 10s: b, c, d, e, f and 3 more; see"},
		"one not in time":                {[]Report{said("a", one)}, 10, no, "ProxiesBehind", "1 proxy has not acknowledged it for 10s: b; see"},
		"canaries try it":                {[]Report{said("a", has), said("b", staged)}, 1, who, "Pending", "on its way"},
		"canaries try it for ever":       {[]Report{said("a", has), said("b", staged)}, 11, no, "ReplicaBehind", "replica b has not brought it into force for 10s"},
		"not read there yet":             {[]Report{said("a", has), said("b", older)}, 1, who, "Pending", "on its way"},
		"not read there in time":         {[]Report{said("a", has), said("b", older), said("c", has, without)}, 11, no, "ReplicaBehind", "replica b, c have not read it"},
		"not reported yet":               {[]Report{said("a", has), said("b", has, unknown)}, 60, who, "Pending", "waiting for the first report of replica b"},
		"never reported":                 {[]Report{said("a", has), said("b", has, unknown, silent)}, 60, who, "ReplicaSilent", "replica b, which has not reported for 10s"},
		"no longer reports":              {[]Report{said("a", has), said("b", has, silent)}, 60, who, "ReplicaSilent", ""},
		"refused":                        {[]Report{said("a", has), said("b", refused)}, 1, no, "Rejected", "n refused CDS a: bad; the last good configuration stays in force"},
		"refused before anything else":   {[]Report{said("a", lags), said("b", refused), said("c", has, silent)}, 60, no, "Rejected", ""},
		"held back":                      {[]Report{said("a", heldBack)}, 60, no, "HeldBack", "held back until HTTPRoute web/x (generation 2) is mended: n refused CDS a: bad"},
		"a newer one is refused there":   {[]Report{said("a", has), said("b", ObjectSummary{Generation: 4, State: Refused, Refusal: refused.Refusal})}, 60, who, "Pending", "on its way"},
		"a newer one is on its way":      {[]Report{said("a", has), said("b", ObjectSummary{Generation: 4, State: Pending, Laggards: 3})}, 60, who, "Pending", "on its way"},
		"what is known to be wrong wins": {[]Report{said("a", one), said("b", has, silent)}, 60, no, "ProxiesBehind", ""},
		"nobody at all":                  {nil, 60, who, "NoProxies", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ProgrammedCondition(Target{Name: route("r"), Generation: 3, Since: at(100 - c.age)}, c.reports, at(100))
			require.Equal(t, "Programmed", got.Type)
			require.Equal(t, c.status, got.Status, "%+v", got)
			require.Equal(t, c.reason, got.Reason, "%+v", got)
			require.Contains(t, got.Message, c.message)
			require.EqualValues(t, 3, got.ObservedGeneration)
			require.Contains(t, reasons, got.Reason)
		})
	}
}

// programmedAt runs a condition through moments of a script.
func TestConditionsHoldStill(t *testing.T) {
	type moment struct {
		at      float64
		reports []Report
		want    string // the reason, "" for no condition
	}
	has := ObjectSummary{Generation: 1, State: Acknowledged, Index: 5}
	lag := ObjectSummary{Generation: 1, State: Pending, Index: 9, Laggards: 1, Nodes: []string{"p"}}
	bad := ObjectSummary{Generation: 1, State: Refused, Refusal: &Refusal{Resource: "CDS a", Node: "n", Error: "bad", Held: true}}
	own := func(s float64, o ObjectSummary, proxies int) Report {
		r := said("a", o)
		r.Heard, r.Summary.Proxies = at(s), proxies
		return r
	}
	awaited := func(s float64) Report { return Report{Replica: "b", Heard: at(s)} }
	for name, c := range map[string]struct {
		since   float64 // when the generation was compiled; the term begins at 0
		moments []moment
	}{
		"the only proxy is replaced": {-60, []moment{
			{0, []Report{own(0, has, 1)}, "Programmed"},
			{1, []Report{own(1, has, 0)}, "Programmed"},
			{9.9, []Report{own(9.9, has, 0)}, "Programmed"},
			{10.1, []Report{own(10.1, has, 0)}, "NoProxies"},
			{11, []Report{own(11, has, 1)}, "Programmed"},
		}},
		"a replica restarts": {-60, []moment{
			{0, []Report{own(0, has, 1)}, "Programmed"},
			{1, []Report{own(1, has, 1), awaited(1)}, "Programmed"},
			{10.5, []Report{own(10.5, has, 1), awaited(1)}, "Pending"},
			{11, []Report{own(11, has, 1), awaited(1)}, "ReplicaSilent"},
			{12, []Report{own(12, has, 1)}, "Programmed"},
		}},
		"a new leader says nothing that it does not know": {-60, []moment{
			{0, []Report{own(0, has, 1), awaited(0)}, ""},
			{9, []Report{own(9, has, 1), awaited(0)}, ""},
			{10, []Report{own(10, has, 1), awaited(0)}, "ReplicaSilent"},
		}},
		"a new leader says what is wrong at once": {-60, []moment{
			{0, []Report{own(0, lag, 1), awaited(0)}, "ProxiesBehind"},
		}},
		"a generation of this term is pending at once": {0.5, []moment{
			{1, []Report{own(1, lag, 1)}, "Pending"},
			{10.4, []Report{own(10.4, lag, 1)}, "Pending"},
			{10.5, []Report{own(10.5, lag, 1)}, "ProxiesBehind"},
			{11, []Report{own(11, has, 1)}, "Programmed"},
		}},
		"refused, then mended by another object": {-60, []moment{
			{0, []Report{own(0, bad, 1)}, "Rejected"},
			{50, []Report{own(50, bad, 1)}, "Rejected"},
			{51, []Report{own(51, lag, 1)}, "Pending"},
			{59, []Report{own(59, lag, 1)}, "Pending"},
			{61, []Report{own(61, lag, 1)}, "ProxiesBehind"},
			{62, []Report{own(62, has, 1)}, "Programmed"},
			{63, []Report{own(63, bad, 1)}, "Rejected"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wake := make(chan struct{}, 1)
			v := newConditions(at(0), wake)
			last := ""
			for _, m := range c.moments {
				v.update([]Target{{Name: route("r"), Generation: 1, Since: at(c.since)}}, m.reports, at(m.at))
				got, ok := v.get(refOf("r", 1))
				require.Equal(t, m.want != "", ok, "at %v: %+v", m.at, got)
				require.Equal(t, m.want, got.Reason, "at %v: %+v", m.at, got)
				if m.want != last {
					require.Len(t, wake, 1, "at %v", m.at)
					<-wake
					require.Equal(t, []discovery.ObjectName{route("r")}, v.take())
				} else {
					require.Empty(t, v.take(), "at %v", m.at)
				}
				last = m.want
			}
			_, ok := v.get(refOf("r", 2))
			require.False(t, ok, "a later generation has no condition yet")
			v.update(nil, nil, at(100))
			_, ok = v.get(refOf("r", 1))
			require.False(t, ok, "the object is gone")
		})
	}
}

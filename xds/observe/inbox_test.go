package observe

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// randomSummary is what a replica might see.
func randomSummary(r *rand.Rand, objects int) Summary {
	s := Summary{Proxies: r.IntN(3), Acknowledged: r.Uint64N(9), Objects: make(map[discovery.ObjectName]ObjectSummary)}
	for i := range objects {
		if r.IntN(4) == 0 {
			continue
		}
		o := ObjectSummary{Generation: r.Int64N(3), State: State(1 + r.IntN(3)), Index: r.Uint64N(9)} //nolint:gosec // 1 to 3
		switch o.State {
		case Pending:
			for n := range r.IntN(4) {
				o.Laggards++
				o.Nodes = append(o.Nodes, fmt.Sprint("p", n))
			}
		case Refused:
			o.Refusal = &Refusal{Resource: "CDS a", Node: "p", Error: strings.Repeat("x", r.IntN(maxError)), Held: r.IntN(2) == 0}
		}
		s.Objects[route(fmt.Sprint(i))] = o
	}
	return s
}

// feed gives messages to an inbox as a stream does, from sequence number on.
func feed(t *testing.T, b *inbox, name string, session, sequence uint64, summaries []*observev1.Summary) (next uint64) {
	t.Helper()
	for _, s := range summaries {
		m := &observev1.ReportRequest{Epoch: b.epoch, Sequence: sequence, Content: &observev1.ReportRequest_Summary{Summary: s}}
		data, err := proto.Marshal(m)
		require.NoError(t, err)
		require.Less(t, len(data), 2*chunk)
		var got observev1.ReportRequest
		require.NoError(t, proto.Unmarshal(data, &got))
		o, err := b.apply(name, session, &got, at(1))
		require.NoError(t, err)
		require.Equal(t, accepted, o)
		sequence++
	}
	return sequence
}

// What has changed, applied to what was known, is what there is, however large
// it is and however it is cut into messages.
func TestDeltasEqualFull(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		b := newInbox(42, at(0))
		b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
		require.NoError(t, b.open("b", "c", 1, func() {}))
		var told *Summary
		sequence := uint64(2)
		for range 6 {
			s := randomSummary(r, r.IntN(600))
			sequence = feed(t, b, "b", 1, sequence, messages(told, &s))
			told = &s
			got := b.reports()[0]
			require.True(t, got.Known)
			require.Equal(t, s, got.Summary, "seed %d", seed)
			require.Empty(t, messages(told, &s), "nothing is new")
		}
	}
}

// Until all of a full summary is there, what was known before holds.
func TestFullSummaryIsAtomic(t *testing.T) {
	b := newInbox(42, at(0))
	b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
	require.NoError(t, b.open("b", "c", 1, func() {}))
	r := rand.New(rand.NewPCG(1, 1))
	big := randomSummary(r, 4000)
	parts := messages(nil, &big)
	require.Greater(t, len(parts), 2)
	feed(t, b, "b", 1, 2, parts[:len(parts)-1])
	require.False(t, b.reports()[0].Known)
	feed(t, b, "b", 1, uint64(len(parts)+1), parts[len(parts)-1:])
	require.Equal(t, big, b.reports()[0].Summary)
}

// Messages that are late, doubled, lost or of another life change nothing that
// they should not.
func TestBookTakesOnlyWhatIsNext(t *testing.T) {
	var ended []string
	end := func(name string) func() { return func() { ended = append(ended, name) } }
	b := newInbox(42, at(0))
	b.live([]Replica{{Name: "b", Certificate: "c"}, {Name: "d", Certificate: "e"}}, at(0))
	require.ErrorIs(t, b.open("x", "c", 1, end("x")), errNotLive)
	require.ErrorIs(t, b.open("b", "e", 1, end("x")), errNotLive, "somebody else's certificate")
	require.NoError(t, b.open("b", "c", 5, end("b5")))

	message := func(epoch, sequence uint64, s *observev1.Summary) *observev1.ReportRequest {
		return &observev1.ReportRequest{Epoch: epoch, Sequence: sequence, Content: &observev1.ReportRequest_Summary{Summary: s}}
	}
	apply := func(session uint64, m *observev1.ReportRequest) result {
		o, err := b.apply("b", session, m, at(1))
		require.NoError(t, err)
		return o
	}
	object := func(generation int64) []*observev1.Object {
		return []*observev1.Object{{Name: nameTo(route("r")), Generation: generation, State: observev1.State_STATE_ACKNOWLEDGED}}
	}
	generation := func() int64 { return b.reports()[0].Summary.Objects[route("r")].Generation }

	require.Equal(t, stale, apply(5, message(41, 2, &observev1.Summary{Full: true, Objects: object(9)})), "of another term")
	require.Equal(t, missing, apply(5, message(42, 2, &observev1.Summary{Objects: object(1)})), "a change of nothing that is known")
	require.Equal(t, accepted, apply(5, message(42, 3, &observev1.Summary{Full: true, Objects: object(1)})))
	require.Equal(t, duplicate, apply(5, message(42, 3, &observev1.Summary{Full: true, Objects: object(9)})))
	require.Equal(t, accepted, apply(5, message(42, 4, &observev1.Summary{Objects: object(2)})))
	require.Equal(t, missing, apply(5, message(42, 6, &observev1.Summary{Objects: object(4)})), "the one before is lost")
	require.EqualValues(t, 2, generation())
	require.Equal(t, missing, apply(5, message(42, 7, &observev1.Summary{Objects: object(4)})), "still")
	require.Equal(t, accepted, apply(5, message(42, 8, &observev1.Summary{Full: true, Objects: object(4)})))
	require.EqualValues(t, 4, generation())
	require.Equal(t, accepted, apply(5, &observev1.ReportRequest{Epoch: 42, Sequence: 9}), "what only newer replicas say")

	require.ErrorIs(t, b.open("b", "c", 5, end("x")), errReplaced)
	require.NoError(t, b.open("b", "c", 6, end("b6")))
	require.Equal(t, []string{"b5"}, ended)
	require.Equal(t, stale, apply(5, message(42, 10, &observev1.Summary{Objects: object(9)})), "of the stream before")
	require.EqualValues(t, 4, generation(), "what was known holds until there is more")

	b.live([]Replica{{Name: "b", Certificate: "new"}, {Name: "d", Certificate: "e"}}, at(2))
	require.Equal(t, []string{"b5", "b6"}, ended)
	require.False(t, b.reports()[0].Known, "it has restarted")
	require.ErrorIs(t, b.open("b", "c", 7, end("x")), errNotLive)
	require.NoError(t, b.open("b", "new", 1, end("b1")))
	b.live([]Replica{{Name: "d", Certificate: "e"}}, at(3))
	require.Equal(t, []string{"b5", "b6", "b1"}, ended)
	require.Len(t, b.reports(), 1)
	require.Equal(t, stale, apply(1, message(42, 2, &observev1.Summary{Full: true})), "it is no replica any more")
}

func TestBookIsBounded(t *testing.T) {
	b := newInbox(1, at(0))
	b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
	require.NoError(t, b.open("b", "c", 1, func() {}))
	for i := uint64(0); ; i++ {
		s := &observev1.Summary{Full: i == 0, More: true}
		for n := range 1000 {
			s.Objects = append(s.Objects, &observev1.Object{Name: nameTo(route(fmt.Sprint(i, "-", n)))})
		}
		if _, err := b.apply("b", 1, &observev1.ReportRequest{Epoch: 1, Sequence: 2 + i, Content: &observev1.ReportRequest_Summary{Summary: s}}, at(1)); err != nil {
			require.ErrorIs(t, err, errTooMany)
			require.EqualValues(t, maxObjects/1000, i)
			return
		}
	}
}

// Whatever a replica sends, the leader keeps its wits: it neither panics nor
// knows more than was said.
func FuzzBook(f *testing.F) {
	full := &observev1.ReportRequest{Epoch: 1, Sequence: 2, Content: &observev1.ReportRequest_Summary{Summary: &observev1.Summary{
		Full: true, Proxies: 3, Objects: []*observev1.Object{{
			Name: nameTo(route("r")), Generation: 2, State: observev1.State_STATE_REJECTED,
			Rejection: &observev1.Rejection{Resource: "CDS a", Error: "bad"},
		}},
	}}}
	for _, m := range []*observev1.ReportRequest{full, {Epoch: 1, Sequence: 2}, {Content: &observev1.ReportRequest_Hello{Hello: &observev1.Hello{Session: 1}}}} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		b := newInbox(1, at(0))
		b.live([]Replica{{Name: "b", Certificate: "c"}}, at(0))
		require.NoError(t, b.open("b", "c", 1, func() {}))
		for _, data := range [][]byte{one, two} {
			var m observev1.ReportRequest
			if proto.Unmarshal(data, &m) != nil {
				continue
			}
			_, _ = b.apply("b", 1, &m, at(1))
		}
		for _, r := range b.reports() {
			for name, o := range maps.All(r.Summary.Objects) {
				require.Contains(t, []State{Pending, Acknowledged, Refused}, o.State)
				require.Equal(t, o.State == Refused, o.Refusal != nil)
				c := ProgrammedCondition(Target{Name: name, Generation: o.Generation, Since: at(0)}, []Report{r}, at(5))
				require.NotEmpty(t, c.Reason)
				require.Less(t, len(c.Message), 32<<10, "the API server's limit")
			}
		}
	})
}

package shift

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// world is everything around the machine: what is stored, what is seen, and
// what goes wrong.
type world struct {
	r      *rand.Rand
	object *v1alpha1.TrafficShift
	wall   time.Time
	// mono never jumps. seen, began and disturbed are times by it.
	mono, leads, began, disturbed time.Duration
	leapt                         time.Duration
	verdict                       Result
	room                          Hundredths
	accepted, failedOver          bool
	frozen, locked, terminating   bool
	unsettled                     bool
	deleting, released            bool
	home                          discovery.BackingName
	promoted                      bool
	commands                      int
	log                           []string
}

func newWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 17))
	w := &world{r: r, wall: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), verdict: Pass, room: Whole, accepted: true, home: discovery.Instances}
	o := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web", Generation: 1}}
	o.Spec.ServiceRef.Name = "php-web"
	o.Spec.Direction = v1alpha1.InstancesToPods
	if r.IntN(3) == 0 {
		o.Spec.Direction, w.home = v1alpha1.PodsToInstances, discovery.Pods
	}
	o.Spec.Steps = w.steps()
	o.Spec.Guard.Window.Duration = w.pick(0, 10*time.Second, time.Minute, 2*time.Minute)
	o.Spec.OnFailure = []v1alpha1.ShiftFailureAction{v1alpha1.RollBack, v1alpha1.RollBack, v1alpha1.HoldStep, v1alpha1.PreviousStep}[r.IntN(4)]
	w.object = o
	return w
}

func (w *world) pick(d ...time.Duration) time.Duration { return d[w.r.IntN(len(d))] }

func (w *world) steps() []v1alpha1.ShiftStep {
	var out []v1alpha1.ShiftStep
	step := func() *v1alpha1.ShiftStep {
		out = append(out, v1alpha1.ShiftStep{})
		s := &out[len(out)-1]
		if w.r.IntN(4) > 0 {
			s.Hold = &metav1.Duration{Duration: w.pick(time.Second, 30*time.Second, 5*time.Minute, time.Hour)}
		}
		if s.Hold == nil || w.r.IntN(5) == 0 {
			s.Approval = v1alpha1.ApprovalRequired
		}
		return s
	}
	for range w.r.IntN(3) {
		step().Shadow = &v1alpha1.ShiftShadow{Percent: Hundredths(1 + w.r.IntN(3000)).Percent()}
	}
	share := Hundredths(0)
	for range w.r.IntN(4) {
		share += Hundredths(1 + w.r.IntN(2400))
		step().Percent = share.Percent()
	}
	if w.r.IntN(5) > 0 || len(out) == 0 {
		step().Percent = "100"
	}
	return out
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%s  %s", w.wall.Format(time.DateTime+".000"), fmt.Sprintf(format, args...)))
}

func (w *world) pass(d time.Duration) { w.wall, w.mono = w.wall.Add(d), w.mono+d }

// happen lets something happen.
func (w *world) happen() {
	r := w.r
	w.pass(w.pick(500*time.Millisecond, 500*time.Millisecond, 20*time.Second, time.Minute, 10*time.Minute))
	switch r.IntN(26) {
	case 0, 1:
		w.verdict = []Result{Pass, Hold, Fail, ""}[r.IntN(4)]
		w.note("verdict %q", w.verdict)
	case 2, 3, 4:
		w.verdict = Pass
	case 5:
		jump := w.pick(-5*time.Hour, -time.Minute, -time.Second, time.Minute, 3*time.Hour)
		w.wall = w.wall.Add(jump)
		if jump > 0 {
			w.disturbed, w.leapt = w.mono, w.leapt+jump
		}
		// The machine sees for itself that a clock is far ahead.
		if jump > 0 && (jump < time.Hour || r.IntN(2) == 0) {
			w.leads = w.mono
		}
		w.note("the clock jumps by %s", jump)
	case 6:
		w.leads, w.disturbed = w.mono, w.mono
		w.note("another leader")
	case 7, 8, 9, 10, 11:
		w.command()
	case 12, 13:
		w.edit()
	case 14:
		w.frozen, w.locked = r.IntN(2) == 0, r.IntN(4) == 0
		w.note("frozen %t locked %t", w.frozen, w.locked)
	case 15, 16:
		w.frozen, w.locked, w.failedOver, w.accepted, w.room = false, false, false, true, Whole
	case 17:
		w.failedOver = !w.failedOver
		w.note("failed over %t", w.failedOver)
	case 18:
		w.room = Hundredths(r.IntN(int(Whole)))
	case 19:
		w.accepted = r.IntN(3) > 0
	case 20:
		w.unsettled = !w.unsettled
	case 21:
		if r.IntN(40) == 0 {
			w.deleting, w.terminating = true, r.IntN(4) == 0
			w.note("deleted")
		}
	}
}

func (w *world) command() {
	actions := []v1alpha1.ShiftAction{v1alpha1.ActionPromote, v1alpha1.ActionPromote, v1alpha1.ActionPromote, v1alpha1.ActionPause, v1alpha1.ActionResume, v1alpha1.ActionResume, v1alpha1.ActionRollback, "dance"}
	w.commands++
	c := v1alpha1.ShiftCommand{ID: strconv.Itoa(w.commands), Action: actions[w.r.IntN(len(actions))], Actor: "ada", Time: metav1.Time{Time: w.wall}}
	if w.r.IntN(3) > 0 {
		step := w.object.Status.Step - int32(w.r.IntN(4)/3)
		c.Step = &step
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	if w.r.IntN(30) == 0 {
		text = []byte("{")
	}
	w.object.Annotations = map[string]string{v1alpha1.CommandAnnotation: string(text)}
	w.note("command %s", text)
}

func (w *world) edit() {
	spec := &w.object.Spec
	w.object.Generation++
	switch w.r.IntN(8) {
	case 0, 1:
		spec.Steps = w.steps()
	case 2:
		spec.Paused = !spec.Paused
	case 3:
		spec.Pin = Hundredths(w.r.IntN(int(Whole) + 1)).Percent()
	case 4, 5:
		spec.Pin, spec.Paused = "", false
	case 6:
		spec.Guard.MinRequests++
	case 7:
		if w.r.IntN(2) == 0 {
			spec.Direction = map[v1alpha1.ShiftDirection]v1alpha1.ShiftDirection{
				v1alpha1.InstancesToPods: v1alpha1.PodsToInstances, v1alpha1.PodsToInstances: v1alpha1.InstancesToPods,
			}[spec.Direction]
		}
	}
	steps, err := json.Marshal(spec.Steps)
	if err != nil {
		panic(err)
	}
	w.note("edit: %s pin %q paused %t, %s", spec.Direction, spec.Pin, spec.Paused, steps)
}

func (w *world) input() Input {
	from, to := policy.FromTo(DirectionOf(w.object))
	in := Input{
		Object: w.object.DeepCopy(), Accepted: w.accepted, Problem: "another one is in charge", From: from, To: to,
		Verdict: Verdict{Result: w.verdict, Reason: "figures"}, FailedOver: w.failedOver, FailedOverReason: "no pods",
		Seen: w.mono - w.leads, Frozen: w.frozen, Locked: w.locked, FrozenBy: "bob", InstancesInService: 5,
		Deleting: w.deleting, NamespaceTerminating: w.terminating, TargetIsHome: w.home == to,
		Room: func(p v1alpha1.Percent) Room {
			share, err := ParsePercent(p)
			return Room{OK: err == nil && share <= w.room, Reason: "pods"}
		},
	}
	// A shift to where the traffic is at home already is refused.
	if s := &in.Object.Status; in.TargetIsHome && (s.Phase == "" || s.Phase == v1alpha1.ShiftPending || s.Phase == v1alpha1.ShiftPaused && s.Step < 0) {
		in.Accepted = false
	}
	in.Analysis = Analyze(&v1alpha1.ShiftGuard{}, &Observation{}, in.Verdict, w.wall, in.Object.Status.Analysis)
	if w.unsettled {
		in.Unsettled = "1 proxy has not acknowledged"
	}
	return in
}

// decide asks the machine, holds what it says against the invariants, and writes it, or a
// part of it, or nothing. It returns the name of an invariant that does not hold.
func (w *world) decide() (string, error) {
	in := w.input()
	promoted := w.promoted
	if c, err := readCommand(in.Object); err == nil && c != nil && c.ID != in.Object.Status.Command && c.Action == v1alpha1.ActionPromote &&
		(c.Step == nil || *c.Step == in.Object.Status.Step) {
		promoted = true
	}
	t := &transition{
		in: in, now: w.wall, since: w.mono - w.began, leapt: w.leapt, quiet: w.mono - w.disturbed, promoted: promoted, unnoticed: w.leads < w.disturbed, quick: w.r.IntN(5) > 0,
	}
	t.out = Next(in, w.wall)
	for _, i := range invariants {
		if err := i.check(t); err != nil {
			return i.name, err
		}
	}
	w.write(t)
	return "", nil
}

func (w *world) write(t *transition) {
	lost := w.r.IntN(10)
	if lost == 0 {
		return // a conflict, or the leader died
	}
	if t.out.Home {
		w.home = t.in.To
		if lost == 1 || w.r.IntN(3) == 0 {
			w.note("the home is recorded, the status is lost")
			return
		}
	}
	before := w.object.Status
	w.object.Status = stored(&t.out.Status)
	s := &w.object.Status
	switch {
	case s.Step != before.Step || s.Percent != before.Percent || s.ShadowPercent != before.ShadowPercent:
		w.began, w.leapt, w.promoted = w.mono, 0, false
		w.note("%s step %d at %s shadow %q, waits for: %s", s.Phase, s.Step, s.Percent, s.ShadowPercent, s.Waiting)
	default:
		w.promoted = t.promoted
	}
	w.released = t.out.Release && w.deleting
}

func seeds(t *testing.T) []uint64 {
	t.Helper()
	if s := os.Getenv("CAUSEWAY_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return []uint64{seed}
	}
	n := 250
	if os.Getenv("CAUSEWAY_SOAK") != "" {
		n = 10_000
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i)
	}
	return out
}

// failure is an invariant that a world has broken.
type failure struct {
	seed      uint64
	invariant string
	err       error
	log       []string
	stored    v1alpha1.TrafficShiftStatus
}

func (f *failure) String() string {
	status, err := json.MarshalIndent(f.stored, "", " ")
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s\nCAUSEWAY_SEED=%d: %v\nstored: %s", strings.Join(f.log, "\n"), f.seed, f.err, status)
}

// live lets a world happen, counts the phases that it was in, and returns what it has broken, nil for nothing.
func live(seed uint64, phases map[v1alpha1.ShiftPhase]int) *failure {
	w := newWorld(seed)
	for range 150 {
		w.happen()
		if invariant, err := w.decide(); err != nil {
			return &failure{seed, invariant, err, w.log, w.object.Status}
		}
		phases[w.object.Status.Phase]++
		if w.released {
			break
		}
	}
	return nil
}

// TestInvariants lets random worlds happen to the machine, and shows the first one that breaks each
// invariant. CAUSEWAY_SEED repeats one, and CAUSEWAY_SOAK lets many more happen.
func TestInvariants(t *testing.T) {
	t.Parallel()
	const parts = 16
	all := seeds(t)
	var mu sync.Mutex
	failures, phases := map[string][]*failure{}, map[v1alpha1.ShiftPhase]int{}
	t.Cleanup(func() {
		for _, name := range slices.Sorted(maps.Keys(failures)) {
			found := failures[name]
			t.Errorf("%s is broken by %d seeds, first by this one:\n%s", name, len(found),
				slices.MinFunc(found, func(a, b *failure) int { return cmp.Compare(a.seed, b.seed) }))
		}
		t.Log(phases)
		if len(all) == 1 {
			return
		}
		for _, phase := range []v1alpha1.ShiftPhase{
			v1alpha1.ShiftPending, v1alpha1.ShiftShadowing, v1alpha1.ShiftShifting, v1alpha1.ShiftAwaitingApproval, v1alpha1.ShiftSoaking,
			v1alpha1.ShiftCompleted, v1alpha1.ShiftRollingBack, v1alpha1.ShiftRolledBack, v1alpha1.ShiftPaused,
		} {
			if phases[phase] == 0 {
				t.Errorf("no world was ever %s", phase)
			}
		}
	})
	for part := range min(parts, len(all)) {
		t.Run(fmt.Sprintf("part %d", part), func(t *testing.T) {
			t.Parallel()
			seen := map[v1alpha1.ShiftPhase]int{}
			for i := part; i < len(all); i += parts {
				if f := live(all[i], seen); f != nil {
					mu.Lock()
					failures[f.invariant] = append(failures[f.invariant], f)
					mu.Unlock()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for phase, n := range seen {
				phases[phase] += n
			}
		})
	}
}

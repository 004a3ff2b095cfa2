package shift

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// PlanInput is the input of a plan besides the spec. Its zero value is a plan
// without any known traffic.
type PlanInput struct {
	Demand Demand
	Fleet  Fleet
	// DailyUsers of the Service, 0 if nobody said.
	DailyUsers int64
	// Facts for the preflight, nil to leave it out.
	Facts *Facts
}

// Plan is what the steps of a TrafficShift mean.
type Plan struct {
	Service   string                  `json:"service"`
	Direction v1alpha1.ShiftDirection `json:"direction"`
	// EarliestEnd is how long all steps take if the guard is content throughout and approvals
	// come at once; absent if some step cannot end.
	EarliestEnd *metav1.Duration `json:"earliestEnd,omitempty"`
	// Approvals is how often the shift waits for a person.
	Approvals int `json:"approvals"`
	// Completes is false for a shift that stays at less than 100 percent.
	Completes bool `json:"completes"`
	// PeakRequestsPerSecond of the whole Service, 0 if it was not measured.
	PeakRequestsPerSecond float64    `json:"peakRequestsPerSecond,omitempty"`
	ReadyPods             int        `json:"readyPods"`
	Steps                 []PlanStep `json:"steps"`
	// Warnings about the plan as a whole.
	Warnings  []string `json:"warnings,omitempty"`
	Preflight []string `json:"preflight,omitempty"`
}

// PlanStep is what one step means.
type PlanStep struct {
	// Number from 1.
	Number int `json:"number"`
	// Percent of the traffic that the target has, and ShadowPercent of it that is copied to it.
	Percent       v1alpha1.Percent       `json:"percent"`
	ShadowPercent v1alpha1.Percent       `json:"shadowPercent,omitempty"`
	ShadowMethods []v1alpha1.ShiftMethod `json:"shadowMethods,omitempty"`
	// AtLeast is how long the step lasts at least: its hold, or a window of the guard.
	AtLeast  metav1.Duration `json:"atLeast"`
	Approval bool            `json:"approval,omitempty"`
	// Users of a day whose requests the target answers, and UsersMoved that come with this step.
	Users      *int64 `json:"users,omitempty"`
	UsersMoved *int64 `json:"usersMoved,omitempty"`
	// PeakRequestsPerSecond that pods get, copies included, at the measured peak.
	PeakRequestsPerSecond float64 `json:"podsPeakRequestsPerSecond,omitempty"`
	// PodsNeeded for that, 0 if the spec states no maxRequestsPerSecondPerPod.
	PodsNeeded int `json:"podsNeeded,omitempty"`
	// MinRequests is how long the target takes for guard.minRequests requests at the
	// rate of now, absent if that is not known.
	MinRequests *metav1.Duration `json:"minRequestsTakes,omitempty"`
	Warnings    []string         `json:"warnings,omitempty"`
}

// PlanOf returns the plan of a spec's steps. It is an error only if a step
// cannot be read.
func PlanOf(spec *v1alpha1.TrafficShiftSpec, in PlanInput) (*Plan, error) {
	steps, err := readSteps(spec.Steps)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Service: spec.ServiceRef.Name, Direction: spec.Direction, ReadyPods: in.Fleet.ReadyPods,
		PeakRequestsPerSecond: in.Demand.peak(), Steps: make([]PlanStep, len(steps)),
	}
	if p.Direction == "" {
		p.Direction = v1alpha1.InstancesToPods
	}
	if in.Facts != nil {
		p.Preflight = Preflight(spec, in.Facts)
	}
	total, ends := time.Duration(0), true
	before := Hundredths(0)
	for i := range steps {
		st := planner{spec: spec, in: &in, direction: p.Direction, before: before}.step(i, &steps[i])
		total += st.PlanStep.AtLeast.Duration
		ends = ends && st.ends
		if st.Approval {
			p.Approvals++
		}
		p.Steps[i] = st.PlanStep
		before = steps[i].share
	}
	p.Completes = before == Whole
	if ends {
		p.EarliestEnd = &metav1.Duration{Duration: total}
	}
	if !p.Completes {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the last step has %s, so the shift stays there and never completes", before))
	}
	if in.Demand.Measured == 0 {
		p.Warnings = append(p.Warnings, "the requests per second of the Service are not measured yet, so no load is known")
	} else if in.Demand.Measured < 24*time.Hour {
		p.Warnings = append(p.Warnings, fmt.Sprintf("requests per second are measured for %s only: the peak of a whole day may be higher", hours(in.Demand.Measured.Round(time.Minute))))
	}
	return p, nil
}

// planner plans a step.
type planner struct {
	spec      *v1alpha1.TrafficShiftSpec
	in        *PlanInput
	direction v1alpha1.ShiftDirection
	// before is the share of the step before.
	before Hundredths
}

// plannedStep is a step, and whether it can end at the rate of now.
type plannedStep struct {
	PlanStep
	ends bool
}

func (p planner) step(i int, s *step) plannedStep {
	window := windowOf(&p.spec.Guard)
	out := plannedStep{ends: true, PlanStep: PlanStep{
		Number: i + 1, Percent: s.share.Percent(), AtLeast: metav1.Duration{Duration: max(s.hold, window)}, Approval: s.approval,
	}}
	if s.shadow != nil {
		out.ShadowPercent, out.ShadowMethods = s.shadow.Percent, shadowMethods(s.shadow)
	}
	if s.hold < window && !s.approval {
		out.Warnings = append(out.Warnings, fmt.Sprintf("its hold of %s is shorter than the guard's window of %s, which it lasts at least", s.hold, window))
	}
	if n := p.in.DailyUsers; n > 0 {
		users, moved := usersOf(n, s.share), usersOf(n, s.share)-usersOf(n, p.before)
		out.Users, out.UsersMoved = &users, &moved
		if none := math.Pow(1-s.share.Part(), float64(n)); p.spec.Cohort != nil && s.share > 0 && none > .01 {
			out.Warnings = append(out.Warnings, fmt.Sprintf(
				"of %s users a day nobody may be among its %s (in %s of cases), and then the guard sees nothing and the step does not end; let it have more percent, or a cohort of more values",
				thousands(uint64(n)), s.share, percentText(none)))
		}
	}
	if p.in.Demand.Measured > 0 {
		p.load(&out, s)
		p.evidence(&out, s, window)
	}
	return out
}

// load says what pods have to carry.
func (p planner) load(out *plannedStep, s *step) {
	onPods := s.load()
	if p.direction == v1alpha1.PodsToInstances {
		onPods = Whole - s.share
	}
	out.PeakRequestsPerSecond = p.in.Demand.peak() * onPods.Part()
	if c := p.spec.Capacity; c != nil && c.MaxRequestsPerSecondPerPod > 0 {
		out.PodsNeeded = int(math.Ceil(out.PeakRequestsPerSecond / float64(c.MaxRequestsPerSecondPerPod)))
		if p.direction == v1alpha1.InstancesToPods {
			out.PodsNeeded = max(out.PodsNeeded, 1, int(c.MinReadyPods))
		}
	}
	if p.direction == v1alpha1.InstancesToPods && out.PodsNeeded > p.in.Fleet.ReadyPods {
		out.Warnings = append(out.Warnings, fmt.Sprintf("it needs %s for %s requests/s, and there are %d: the step waits until there are enough",
			counted(out.PodsNeeded, "ready pod"), perSecond(out.PeakRequestsPerSecond), p.in.Fleet.ReadyPods))
	}
}

// evidence returns how long it takes until the guard has seen enough. The guard decides by one
// window, so a target that gets too few requests in it never passes.
func (p planner) evidence(out *plannedStep, s *step, window time.Duration) {
	part := s.share
	if s.shadow != nil {
		part, _ = ParsePercent(s.shadow.Percent)
	}
	least := p.spec.Guard.MinRequests
	if least == 0 {
		least = defaultMinRequests
	}
	rate := p.in.Demand.Now * part.Part()
	if rate <= 0 {
		out.ends = false
		out.Warnings = append(out.Warnings, "there are no requests now, so the guard sees nothing and the step does not end")
		return
	}
	seconds := min(float64(least)/rate, maxEvidence.Seconds())
	takes := time.Duration(math.Ceil(seconds)) * time.Second
	out.MinRequests = &metav1.Duration{Duration: takes}
	p.sourceEvidence(out, s, window)
	if takes <= window {
		return
	}
	out.ends = false
	share, now := part, perSecond(p.in.Demand.Now)
	out.Warnings = append(out.Warnings, fmt.Sprintf(
		"%s of %s requests/s takes %s for the %d requests of guard.minRequests, and the guard's window is %s: the step does not end at this rate; let it have more percent, lower minRequests to %d, or widen the window",
		share, now, phrase.Roughly(takes), least, phrase.Roughly(window), max(1, int64(rate*window.Seconds()*.8))))
}

// sourceEvidence says whether the source gets enough requests in a window to tell its quantile, which
// latency.maxIncrease compares with at shares up to a half.
func (p planner) sourceEvidence(out *plannedStep, s *step, window time.Duration) {
	l := p.spec.Guard.Latency
	if l == nil || l.MaxIncrease == "" || s.share == 0 || s.share > Whole/2 {
		return
	}
	needed, rate := leastForQuantile(quantileOf(&p.spec.Guard)), p.in.Demand.Now*(1-s.share.Part())
	if rate*window.Seconds() >= float64(needed) {
		return
	}
	out.ends = false
	takes := time.Duration(math.Ceil(min(float64(needed)/rate, maxEvidence.Seconds()))) * time.Second
	out.Warnings = append(out.Warnings, fmt.Sprintf(
		"the source takes %s for the %s requests that tell its %s (guard.latency.maxIncrease), and the guard's window is %s: the step does not end at this rate; widen the window, or state a lower quantile",
		phrase.Roughly(takes), thousands(needed), QuantileName(&p.spec.Guard), phrase.Roughly(window)))
}

// maxEvidence bounds what is said of very few requests.
const maxEvidence = 365 * 24 * time.Hour

// usersOf returns how many of n users are in a cohort: those whose hash is below the share.
func usersOf(n int64, share Hundredths) int64 {
	return int64(math.Round(float64(n) * float64(share.Millionths()) / policy.ShareTotal))
}

// String returns the plan as people read it.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Service %s, %s, %s\n", p.Service, p.Direction, counted(len(p.Steps), "step"))
	end := "not at the present rate of requests: see the warnings"
	if p.EarliestEnd != nil {
		end = "in " + phrase.Roughly(p.EarliestEnd.Duration)
	}
	if p.Approvals > 0 {
		end += fmt.Sprintf(", and it waits for you %s", times(p.Approvals))
	}
	fmt.Fprintf(&b, "Earliest end: %s\n\n", end)
	p.table(&b)
	for _, list := range []struct {
		title string
		texts []string
	}{{"Warnings", p.allWarnings()}, {"Preflight", p.Preflight}} {
		if len(list.texts) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", list.title)
		for _, text := range list.texts {
			fmt.Fprintf(&b, "- %s\n", text)
		}
	}
	return b.String()
}

// table writes a line for each step.
func (p *Plan) table(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tSHARE\tAT LEAST\tTHEN\tUSERS\tON PODS AT PEAK\tPODS NEEDED\tMIN REQUESTS TAKES")
	for i := range p.Steps {
		s := &p.Steps[i]
		share, then, users, peak, pods, takes := string(s.Percent)+" %", "goes on", "-", "-", "-", "-"
		if s.ShadowPercent != "" {
			share = fmt.Sprintf("shadow %s %%", s.ShadowPercent)
		}
		switch {
		case s.Approval:
			then = "waits for you"
		case i == len(p.Steps)-1 && p.Completes:
			then = "completes"
		case i == len(p.Steps)-1:
			then = "stays"
		}
		if s.Users != nil {
			users = fmt.Sprintf("%s (+%s)", thousands(uint64(*s.Users)), thousands(uint64(*s.UsersMoved)))
		}
		if p.PeakRequestsPerSecond > 0 {
			peak = perSecond(s.PeakRequestsPerSecond) + "/s"
		}
		if s.PodsNeeded > 0 {
			pods = fmt.Sprintf("%d of %d", s.PodsNeeded, p.ReadyPods)
		}
		if s.MinRequests != nil {
			takes = phrase.Roughly(s.MinRequests.Duration)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Number, share, phrase.Roughly(s.AtLeast.Duration), then, users, peak, pods, takes)
	}
	_ = w.Flush()
}

// allWarnings returns the warnings of the steps, with their numbers, and of the plan.
func (p *Plan) allWarnings() []string {
	var out []string
	for i := range p.Steps {
		for _, text := range p.Steps[i].Warnings {
			out = append(out, fmt.Sprintf("step %d: %s", p.Steps[i].Number, text))
		}
	}
	return append(out, p.Warnings...)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

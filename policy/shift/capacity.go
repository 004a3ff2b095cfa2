package shift

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// defaultKeepSource is how many percent of the instances must still be there
// for a step up where the spec states nothing.
const defaultKeepSource = 100

// Demand is the rate of all callers' requests to a Service per second,
// whichever side answers.
type Demand struct {
	// Now is the rate over the last window, Peak the highest such rate of the last day.
	Now, Peak float64
	// Measured is for how long it was measured, 0 if it was not.
	Measured time.Duration
}

// peak returns the rate that capacity must be there for.
func (d Demand) peak() float64 { return max(d.Now, d.Peak) }

// RoomFor says whether the side that traffic moves to can carry a percent of
// the traffic. sourceAtStart is how many instances were in service when the
// shift began, 0 before. Every shortage is named, with how much is missing.
//
// 0 percent needs nothing. It does not ask whether the source could take its
// traffic back but for keepSourcePercent, which is about instances, and so about shifts to pods.
func RoomFor(spec *v1alpha1.ShiftCapacity, direction v1alpha1.ShiftDirection, sourceAtStart int, fleet Fleet, demand Demand, percent v1alpha1.Percent) Room {
	part, ok := number(percent)
	if !ok {
		return Room{Reason: fmt.Sprintf("percent %q is not a number", percent)}
	}
	if part == 0 {
		return Room{OK: true, Reason: "0 % needs no capacity"}
	}
	if fleet.Error != "" {
		return Room{Reason: "capacity is not known: " + fleet.Error}
	}
	if spec == nil {
		spec = &v1alpha1.ShiftCapacity{}
	}
	if direction == v1alpha1.PodsToInstances {
		if fleet.InstancesInService == 0 {
			return Room{Reason: "needs an instance in service, has none"}
		}
		return Room{OK: true, Reason: counted(fleet.InstancesInService, "instance") + " in service"}
	}

	var short []string
	needed := max(1, int(spec.MinReadyPods))
	because := ""
	load := demand.peak() * part / 100
	if most := float64(spec.MaxRequestsPerSecondPerPod); most > 0 {
		if demand.Measured == 0 {
			short = append(short, "the requests per second of the Service are not measured yet")
		}
		if pods := int(math.Ceil(load / most)); pods > needed {
			needed = pods
			because = fmt.Sprintf(" for %s %% of %s requests/s at %s per pod", percent, perSecond(demand.peak()), perSecond(most))
		}
	}
	if fleet.ReadyPods < needed {
		short = append(short, fmt.Sprintf("needs %s%s, has %d", counted(needed, "ready pod"), because, fleet.ReadyPods))
	}
	// A stated capacity of a pod decides. An autoscaler with a fixed number proves nothing
	// by being at it.
	scaler := ""
	if a := fleet.Autoscaler; a != nil && (a.Limited || a.Maximum > 0 && a.Current >= a.Maximum) {
		wants := "is at"
		if a.Limited {
			wants = "wants more than"
		}
		scaler = fmt.Sprintf("HorizontalPodAutoscaler %s %s its maximum of %s", a.Name, wants, counted(a.Maximum, "replica"))
		stated := spec.MaxRequestsPerSecondPerPod > 0 && demand.Measured > 0
		switch fixed := a.Minimum >= a.Maximum && a.Maximum > 0; {
		case stated && len(short) > 0 && fixed:
			short = append(short, scaler+", which is its minimum too: raise maxReplicas")
		case stated && len(short) > 0:
			short = append(short, scaler+": raise maxReplicas")
		case !stated && !fixed:
			short = append(short, scaler+": raise maxReplicas, or state what a pod carries in capacity.maxRequestsPerSecondPerPod")
		}
	}
	if keep := keepSource(spec, sourceAtStart); fleet.InstancesInService < keep {
		short = append(short, fmt.Sprintf("needs %s in service for the way back (%d %% of the %d that there were), has %d",
			counted(keep, "instance"), keepPercent(spec), sourceAtStart, fleet.InstancesInService))
	}
	if len(short) > 0 {
		return Room{Reason: strings.Join(short, "; ")}
	}
	enough := fmt.Sprintf("%s, each with up to %s requests/s", counted(fleet.ReadyPods, "ready pod"), perSecond(load/float64(fleet.ReadyPods)))
	if scaler != "" {
		enough += "; no more will come: " + scaler
	}
	return Room{OK: true, Reason: enough}
}

func keepPercent(spec *v1alpha1.ShiftCapacity) int {
	if spec == nil || spec.KeepSourcePercent == nil {
		return defaultKeepSource
	}
	return int(*spec.KeepSourcePercent)
}

// keepSource returns how many instances must stay.
func keepSource(spec *v1alpha1.ShiftCapacity, sourceAtStart int) int {
	return (sourceAtStart*keepPercent(spec) + 99) / 100
}

// perSecond returns a rate with two figures, so that what is said does not
// change with every request.
func perSecond(r float64) string {
	if r <= 0 {
		return "0"
	}
	scale := math.Pow(10, math.Floor(math.Log10(r))-1)
	digits := max(0, 1-int(math.Floor(math.Log10(r))))
	return trimZeros(fmt.Sprintf("%.*f", min(digits, 3), math.Round(r/scale)*scale))
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

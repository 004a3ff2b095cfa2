package shift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// headroom is how much more than the peak the instances that stay must be able
// to carry: a zone of four may fail, or tomorrow's peak be higher.
const headroom = 1.3

// Progress is how far a shift to pods has come, for Advise.
type Progress struct {
	// SourceShare is the part of the traffic that instances still have, in millionths.
	SourceShare uint32
	// SourceAtStart is how many instances were in service when the shift began.
	SourceAtStart int
	// Proof is the highest rate that an instance is known to have answered while
	// all was well, in requests per second; 0 if that was not recorded. Then the instances of
	// the start are taken to carry today's peak, as they would have to on the way back.
	Proof float64
	// Completed is true once pods are the Service's home.
	Completed bool
}

// Advise returns, for each auto scaling group, how far it could be scaled in, in a
// sentence with its reasoning; nothing scales by itself. An instance's capacity is not
// guessed: it is the load that it has carried. A shift to instances has no advice.
func Advise(spec *v1alpha1.ShiftCapacity, direction v1alpha1.ShiftDirection, p Progress, fleet Fleet, demand Demand) []string {
	if direction == v1alpha1.PodsToInstances || len(fleet.Groups) == 0 {
		return nil
	}
	if fleet.Error != "" {
		return []string{"no advice: " + fleet.Error}
	}
	groups := slices.Clone(fleet.Groups)
	slices.SortFunc(groups, func(a, b ScalingGroup) int { return cmp.Compare(a.Name, b.Name) })

	remaining := float64(min(p.SourceShare, policy.ShareTotal)) / policy.ShareTotal
	proof, proven := p.Proof, "as it has"
	if proof == 0 && p.SourceAtStart > 0 {
		proof = demand.peak() / float64(p.SourceAtStart)
		proven = fmt.Sprintf("as if the %d of the start carried the peak", p.SourceAtStart)
	}
	instances := 0
	for i := range groups {
		instances += groups[i].instances()
	}
	out := make([]string, 0, len(groups))
	for i := range groups {
		g := &groups[i]
		name := fmt.Sprintf("ASG %s: %s, ", g.Name, g.desiredText())
		switch {
		case remaining == 0 && p.Completed:
			out = append(out, name+"it gets no traffic and could be scaled in to 0 once nobody wants the way back"+minimum(g, 0))
			continue
		case remaining > 0 && fleet.InstancesInService == 0:
			out = append(out, name+"none of the instances answers: there is nothing to scale in; if they are gone for good, set spec.pin: \"100\"")
			continue
		case remaining > 0 && (proof <= 0 || demand.Measured == 0):
			out = append(out, name+"what an instance can carry is not measured yet")
			continue
		}
		part := float64(g.instances()) / float64(max(1, instances))
		load := demand.peak() * remaining * part
		carry, reason := 0, "it gets no traffic"
		if remaining > 0 {
			carry = max(int(math.Ceil(load*headroom/proof)), max(1, g.Zones))
			reason = fmt.Sprintf("%s would carry today's peak of the remaining share (%s %% of %s requests/s", g.text(carry),
				percent(remaining*part), perSecond(demand.peak()))
			reason += fmt.Sprintf(", at %s per instance %s, with %.0f %% headroom%s)", perSecond(proof), proven, 100*(headroom-1), zones(g))
		}
		keep := 0
		if !p.Completed {
			keep = int(math.Ceil(float64(keepSource(spec, p.SourceAtStart)) * part))
		}
		text := name + reason
		switch lowest := g.size(max(carry, keep)); {
		case keep > carry && lowest >= g.Desired:
			text += fmt.Sprintf("; keepSourcePercent %d keeps %s of them until the shift is complete", keepPercent(spec), g.text(keep))
		case keep > carry:
			text += fmt.Sprintf("; scale in to %s at most until the shift is complete (keepSourcePercent %d)", g.text(keep), keepPercent(spec)) + minimum(g, lowest)
		case lowest >= g.Desired:
			text += ": do not scale in"
		default:
			text += minimum(g, lowest)
		}
		out = append(out, text)
	}
	return out
}

// instances returns how many instances the desired size stands for.
func (g *ScalingGroup) instances() int {
	switch {
	case g.Unit == "":
		return g.Desired
	case g.Units == 0 || g.InService == 0:
		return g.InService
	}
	return int(math.Round(float64(g.Desired) * float64(g.InService) / float64(g.Units)))
}

// size returns the group's size for a number of instances like those in service: in
// capacity units where these have weights.
func (g *ScalingGroup) size(instances int) int {
	switch {
	case g.Unit == "" || instances == 0:
		return instances
	case g.InService == 0:
		return instances * max(1, g.Largest)
	}
	size := int(math.Ceil(float64(instances) * float64(g.Units) / float64(g.InService)))
	if instances <= g.Zones {
		size = max(size, instances*g.Largest) // one for each zone, whichever it is
	}
	return size
}

// text writes a number of instances as the group counts them.
func (g *ScalingGroup) text(instances int) string {
	if g.Unit == "" {
		return strconv.Itoa(instances)
	}
	return fmt.Sprintf("%d %s (%s)", g.size(instances), g.Unit, counted(instances, "instance"))
}

func (g *ScalingGroup) desiredText() string {
	if g.Unit == "" {
		return fmt.Sprintf("%d desired", g.Desired)
	}
	return fmt.Sprintf("%d %s desired (%s in service)", g.Desired, g.Unit, counted(g.InService, "instance"))
}

func zones(g *ScalingGroup) string {
	if g.Zones < 2 {
		return ""
	}
	return fmt.Sprintf(" and at least one in each of %d zones", g.Zones)
}

// minimum says that a group's minimum is in the way of a size.
func minimum(g *ScalingGroup, size int) string {
	if g.Minimum <= size || g.Desired <= size {
		return ""
	}
	return fmt.Sprintf("; its minimum of %s is in the way", strings.TrimSuffix(fmt.Sprintf("%d %s", g.Minimum, g.Unit), " "))
}

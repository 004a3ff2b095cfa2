package shift

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// step is a step of the spec as it is meant.
type step struct {
	// share of the target while the step is under way: a shadow leaves it as it was.
	share    Hundredths
	shadow   *v1alpha1.ShiftShadow
	hold     time.Duration
	approval bool
}

// load returns how much of the traffic the target has to carry, copies included.
func (s *step) load() Hundredths {
	load := s.share
	if s.shadow != nil {
		copies, _ := ParsePercent(s.shadow.Percent)
		load += copies
	}
	return min(load, Whole)
}

// readSteps returns the steps of a spec with what each leaves as it was filled in.
func readSteps(spec []v1alpha1.ShiftStep) ([]step, error) {
	out := make([]step, len(spec))
	share := Hundredths(0)
	for i := range spec {
		s := &spec[i]
		if s.Percent != "" {
			given, err := ParsePercent(s.Percent)
			if err != nil {
				return nil, fmt.Errorf("spec.steps[%d]: %w", i, err)
			}
			share = max(share, given)
		}
		if s.Shadow != nil {
			if _, err := ParsePercent(s.Shadow.Percent); err != nil {
				return nil, fmt.Errorf("spec.steps[%d].shadow: %w", i, err)
			}
		}
		out[i] = step{share: share, shadow: s.Shadow, approval: s.Approval == v1alpha1.ApprovalRequired}
		if s.Hold != nil {
			out[i].hold = s.Hold.Duration
		}
	}
	return out, nil
}

// shadowMethods returns the methods that a step copies, sorted.
func shadowMethods(s *v1alpha1.ShiftShadow) []v1alpha1.ShiftMethod {
	if len(s.Methods) == 0 {
		return []v1alpha1.ShiftMethod{"GET", "HEAD"}
	}
	return slices.Compact(slices.Sorted(slices.Values(s.Methods)))
}

func methodsText(methods []v1alpha1.ShiftMethod) string {
	texts := make([]string, len(methods))
	for i, m := range methods {
		texts[i] = string(m)
	}
	return strings.Join(texts, " and ")
}

// defaultWindow is the guard's window where the spec states none.
const defaultWindow = 2 * time.Minute

// windowOf returns the guard's window.
func windowOf(g *v1alpha1.ShiftGuard) time.Duration {
	if g.Window.Duration > 0 {
		return g.Window.Duration
	}
	return defaultWindow
}

// clock meets a wall clock that jumps. Behind the beginning of the step the
// hold begins anew. One that is far ahead of when figures were last kept, which they are
// every refreshEvery, either jumped or nobody was there to look:
// at least a window of the hold is then left.
func (m *machine) clock() {
	if m.s.StepStarted == nil {
		return
	}
	if m.now.Before(m.s.StepStarted.Add(-time.Second)) {
		m.s.StepStarted = stamp(m.now)
		return
	}
	last := m.s.Analysis
	if m.in.Analysis == nil || last == nil || last.Time == nil || m.now.Sub(last.Time.Time) < max(6*refreshEvery, m.window) {
		return
	}
	if left := m.holdEnds().Sub(m.now); left < m.window {
		m.s.StepStarted = stamp(m.s.StepStarted.Add(m.window - left))
	}
}

// edits takes in what has changed in the spec since the status was written.
func (m *machine) edits() {
	o := m.in.Object
	digest := digestOf(m.spec)
	// A generation that has not changed means that another release digests otherwise.
	if m.s.SpecDigest != "" && m.s.SpecDigest != digest && (o.Generation == 0 || o.Generation != m.s.ObservedGeneration) {
		if !m.in.Deleting {
			m.void("the spec was edited")
		}
		if m.s.RolledBack && !m.in.Deleting {
			m.restart(m.share, actorSpec, "the spec changed, so the shift begins anew")
		}
	}
	m.s.SpecDigest = digest

	wanted := m.spec.Direction
	if wanted == "" {
		wanted = v1alpha1.InstancesToPods
	}
	completed := m.s.Phase == v1alpha1.ShiftCompleted
	if pin, err := ParsePercent(m.spec.Pin); m.spec.Pin != "" && err == nil && !m.in.Deleting {
		m.pinned, m.pin = true, pin
	}
	switch {
	case m.s.Direction == "":
		m.s.Direction = wanted
	case m.s.Direction == wanted || m.in.Deleting:
	case completed && !m.pinned && m.share == Whole:
		// The moved traffic is at home now: none of it counts for the next target.
		m.s.Direction, m.s.Phase, m.adopted = wanted, v1alpha1.ShiftPending, true
		m.share, m.s.Percent = 0, "0"
		m.restart(Whole, actorSpec, "the direction was turned round: this is the share of the other side")
	case !completed && m.share == 0 && !m.pinned && m.s.PinnedFrom == "":
		m.s.Direction, m.adopted = wanted, true
		m.restart(m.share, actorSpec, "the direction was turned round")
	default:
		m.turned = true
		if m.pinned {
			m.pin = Whole - m.pin
		}
	}
}

// restart lets the shift begin at its first step again.
func (m *machine) restart(from Hundredths, actor, reason string) {
	m.s.Step, m.s.Approved, m.s.RolledBack, m.s.StepStarted = -1, nil, false, nil
	m.mirror(nil)
	m.record(v1alpha1.EventStep, from, actor, reason)
}

// digestOf changes when a shift that was rolled back must begin anew. A pause, a pin,
// another notice or another reaction to failures does not change what failed.
func digestOf(spec *v1alpha1.TrafficShiftSpec) string {
	text, err := json.Marshal(struct {
		Direction v1alpha1.ShiftDirection
		Cohort    *v1alpha1.ShiftCohort
		Steps     []v1alpha1.ShiftStep
		Guard     v1alpha1.ShiftGuard
		Capacity  *v1alpha1.ShiftCapacity
	}{spec.Direction, spec.Cohort, spec.Steps, spec.Guard, spec.Capacity})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// fits reports whether the step that is said to be under way is one that the share may belong to.
func (m *machine) fits() bool {
	i := int(m.s.Step)
	switch {
	case i < 0:
		return m.share == 0 || len(m.steps) == 0 || m.share < m.steps[0].share
	case i >= len(m.steps):
		return false
	case m.steps[i].share == m.share:
		return true
	}
	return m.steps[i].share < m.share && (i == len(m.steps)-1 || m.steps[i+1].share > m.share)
}

// locate finds the step that is under way by the share, where steps have
// changed under it: of those with this share the first, so that no hold is skipped, or else
// the last one with a smaller share. The share stays as it is.
func (m *machine) locate() {
	if m.pinned || len(m.steps) == 0 {
		return
	}
	if !m.fits() {
		m.s.Step = -1
		for i := range m.steps {
			if at := m.steps[i].share; at <= m.share {
				m.s.Step = int32(i)
				if at == m.share {
					break
				}
			}
		}
		if m.share == 0 && m.s.Step >= 0 {
			// Shadows load the target: they begin as any step does.
			m.s.Step = -1
		}
		m.void("the steps were edited, and another one is under way")
		m.s.StepStarted, m.anew = stamp(m.now), true
		m.mirror(nil)
	}
	m.copied()
}

// copied sets what is copied to what the step says. If that has changed, the shadow
// steps begin again, as any step does: copies are a load on the target.
func (m *machine) copied() {
	i := int(m.s.Step)
	if i < 0 || m.steps[i].share < m.share || sameShadow(m.steps[i].shadow, &m.s) {
		return
	}
	m.mirror(nil)
	m.void("what is copied was edited, and the shadow begins anew")
	m.s.StepStarted, m.anew = stamp(m.now), true
	for i >= 0 && m.steps[i].share == m.share && m.steps[i].shadow != nil {
		i--
	}
	if i >= 0 && m.steps[i].share < m.share {
		// A step with a share of its own copies too: there is none to begin before it.
		i++
		m.mirror(m.steps[i].shadow)
	}
	m.s.Step = int32(i)
}

func sameShadow(shadow *v1alpha1.ShiftShadow, s *v1alpha1.TrafficShiftStatus) bool {
	if shadow == nil {
		return s.ShadowPercent == ""
	}
	return s.ShadowPercent == shadow.Percent && slices.Equal(s.ShadowMethods, shadowMethods(shadow))
}

// Package describe says for a person where a TrafficShift stands.
package describe

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// View is the state of shifts, with the freeze that stops all of them.
type View struct {
	Shifts []v1alpha1.TrafficShift `json:"shifts"`
	Freeze *discovery.Freeze       `json:"freeze,omitempty"`
}

// barWidth is how many characters a share of 100 % is wide.
const barWidth = 30

// Shift is a shift for a person to read, with the newest entries of its history.
func Shift(s *v1alpha1.TrafficShift, view *View, now time.Time, history int) string {
	return drawn(s, view, now, history, barWidth)
}

func drawn(s *v1alpha1.TrafficShift, view *View, now time.Time, history, bar int) string {
	var b strings.Builder
	st := &s.Status
	fmt.Fprintf(&b, "%s/%s: Service %s, %s: %s at %s %%, step %s\n", s.Namespace, s.Name, s.Spec.ServiceRef.Name, direction(s), Phase(s), Percent(s), Step(s))
	if view != nil && view.Freeze != nil {
		fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(view.Freeze.Text(), "\n", "\n  "))
	}
	source, target := policy.FromTo(shift.DirectionOf(s))
	share, _ := strconv.ParseFloat(Percent(s), 64) // it is a number wherever one is stated
	figures := func(backing discovery.BackingName, percent float64) {
		var f *v1alpha1.ShiftFigures
		if a := st.Analysis; a != nil {
			f = figuresOf(backing, a.Pods, a.Instances)
		}
		fmt.Fprintf(&b, "  %-9s  %s %6s %%  %s\n", backing, Bar(percent, bar), formatPercent(percent), figuresText(&s.Spec.Guard, f))
	}
	figures(target, share)
	figures(source, 100-share)
	if st.ShadowPercent != "" {
		fmt.Fprintf(&b, "  shadow     %s %% of %s copied to the %s%s\n", st.ShadowPercent, methods(st.ShadowMethods), target, comparison(st.Analysis))
	}
	if a := st.Analysis; a != nil && a.Verdict != "" {
		fmt.Fprintf(&b, "  guard      %s: %s\n", a.Verdict, a.Reason)
		b.WriteString(pathsText(a, target, source))
	}
	if a := st.Analysis; a != nil && a.LeftOut != "" && !strings.Contains(a.Reason, a.LeftOut) {
		fmt.Fprintf(&b, "  left out   %s\n", a.LeftOut)
	}
	if st.Budget != nil {
		fmt.Fprintf(&b, "  budget     %s %% of what %s %% over %s allows is left; burn rate %s\n",
			st.Budget.Remaining, st.Budget.Objective, periodOf(s), st.Budget.BurnRate)
	}
	if st.StepStarted != nil {
		fmt.Fprintf(&b, "  since      %s (%s)\n", st.StepStarted.Local().Format(time.DateTime), now.Sub(st.StepStarted.Time).Round(time.Second))
	}
	if st.Waiting != "" {
		fmt.Fprintf(&b, "  waits      %s\n", shortWaiting(st))
	}
	if next := nextStep(s); next != "" {
		fmt.Fprintf(&b, "  next       %s\n", next)
	}
	for i := range st.Conditions {
		c := &st.Conditions[i]
		if told := c.Type == v1alpha1.ConditionProgressing && strings.HasPrefix(st.Waiting, c.Message); c.Status == "False" && !told {
			fmt.Fprintf(&b, "  %s=False/%s: %s\n", c.Type, c.Reason, c.Message)
		}
	}
	for i, advice := range st.Advice {
		fmt.Fprintf(&b, "  %-9s  %s\n", heading("advice", i), advice)
	}
	for i, p := range st.Preflight {
		fmt.Fprintf(&b, "  %-9s  %s\n", heading("preflight", i), p)
	}
	for i := range st.History[:min(history, len(st.History))] {
		h := &st.History[i]
		what := fmt.Sprintf("%s → %s %%", h.From, h.To)
		if h.From == h.To {
			what = string(h.To) + " %"
		}
		fmt.Fprintf(&b, "  %-9s  %s  %-14s %-16s %s: %s\n", heading("history", i), h.Time.Local().Format(time.DateTime), what, h.Event, h.Actor, h.Reason)
	}
	return b.String()
}

// longest is how many bytes of what another line says already a line may say again.
const longest = 60

// shortWaiting returns what a shift waits for, without the parts that the lines of the
// guard and of the history have in full.
func shortWaiting(st *v1alpha1.TrafficShiftStatus) string {
	text := st.Waiting
	if a := st.Analysis; a != nil && len(a.Reason) > longest {
		text = strings.ReplaceAll(text, a.Reason, "see above")
	}
	for i := range st.History {
		if h := &st.History[i]; h.Event == v1alpha1.EventRollBack && len(h.Reason) > longest {
			text = strings.ReplaceAll(text, h.Reason, "see its history below")
		}
	}
	return text
}

// replaced returns a shift in whose texts something is said in other words.
func replaced(s *v1alpha1.TrafficShift, in func(string) string) *v1alpha1.TrafficShift {
	out := s.DeepCopy()
	st := &out.Status
	st.Waiting = in(st.Waiting)
	if st.Analysis != nil {
		st.Analysis.Reason = in(st.Analysis.Reason)
	}
	for i := range st.Conditions {
		st.Conditions[i].Message = in(st.Conditions[i].Message)
	}
	for i := range st.History {
		st.History[i].Reason = in(st.History[i].Reason)
	}
	return out
}

// Told returns a shift without what is said beside it already, and with where that is in its place.
func Told(s *v1alpha1.TrafficShift, message, where string) *v1alpha1.TrafficShift {
	if message == "" {
		return s
	}
	texts := []string{message, where}
	if a := s.Status.Analysis; a != nil && a.Reason != "" && strings.Contains(message, a.Reason) {
		texts = append(texts, a.Reason, where)
	}
	return replaced(s, strings.NewReplacer(texts...).Replace)
}

// InBrief returns a shift with its long reasons cut by brief, for a screen that they would fill. The commands
// to run and the place of the whole text stay.
func InBrief(s *v1alpha1.TrafficShift, brief func(string) string) *v1alpha1.TrafficShift {
	whole := fmt.Sprintf(" (whole: causeway shift status %s/%s -o json)", s.Namespace, s.Name)
	var texts []string
	add := func(reason string) {
		if short := brief(reason) + whole; len(short) < len(reason) {
			texts = append(texts, reason, short)
		}
	}
	if a := s.Status.Analysis; a != nil {
		add(a.Reason)
	}
	for i := range s.Status.History {
		add(s.Status.History[i].Reason)
	}
	if len(texts) == 0 {
		return s
	}
	return replaced(s, strings.NewReplacer(texts...).Replace)
}

// Waits says what each shift waits for, whole: it may name the command to run.
func Waits(view *View) string {
	var b strings.Builder
	for i := range view.Shifts {
		if s := &view.Shifts[i]; s.Status.Waiting != "" {
			fmt.Fprintf(&b, "\n%s/%s waits: %s\n", s.Namespace, s.Name, s.Status.Waiting)
		}
	}
	if view.Freeze != nil {
		fmt.Fprintf(&b, "\n%s\n", view.Freeze.Text())
	}
	return b.String()
}

func heading(word string, i int) string {
	if i > 0 {
		return ""
	}
	return word
}

// Bar draws a share in percent, where 100 is so many characters wide.
func Bar(percent float64, width int) string {
	full := int(percent/100*float64(width) + .5)
	if percent > 0 {
		full = max(full, 1)
	}
	if percent < 100 {
		full = min(full, width-1)
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

func formatPercent(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) }

func figuresText(g *v1alpha1.ShiftGuard, f *v1alpha1.ShiftFigures) string {
	stoodIn := ""
	if f != nil && f.StoodIn > 0 {
		stoodIn = fmt.Sprintf("; answered %d for the other side", f.StoodIn)
	}
	open := ""
	if f != nil && f.Open > 0 {
		open = fmt.Sprintf(", %d open", f.Open)
	}
	if f == nil || f.Requests == 0 {
		return "no requests" + open + stoodIn
	}
	out := fmt.Sprintf("%d requests, %s %% good", f.Requests, f.SuccessRate)
	if mix := statusesText(f); mix != "" {
		out += " (" + mix + ")"
	}
	if f.P99 != "" {
		out += ", p50 " + f.P50
		if f.Quantile != "" {
			out += ", " + shift.QuantileName(g) + " " + f.Quantile
		}
		out += ", p99 " + f.P99
	}
	return out + open + stoodIn
}

// statusesShown is how many statuses of a side, and how many paths, a line has room for.
const statusesShown = 3

// statusesText is the commonest statuses of answers.
func statusesText(f *v1alpha1.ShiftFigures) string {
	parts := make([]string, 0, statusesShown)
	for _, s := range f.Statuses[:min(len(f.Statuses), statusesShown)] {
		parts = append(parts, s.Code+" "+s.Percent+" %")
	}
	return strings.Join(parts, ", ")
}

// pathsText says how both sides answered the paths that differ most, while the guard is not content.
func pathsText(a *v1alpha1.ShiftAnalysis, backings ...discovery.BackingName) string {
	if a.Verdict == "Pass" {
		return ""
	}
	var b strings.Builder
	side := func(name string, f *v1alpha1.ShiftFigures) string {
		if f == nil || f.Requests == 0 {
			return name + " none"
		}
		return fmt.Sprintf("%s %s %% good of %d (%s)", name, f.SuccessRate, f.Requests, statusesText(f))
	}
	for i := range a.Paths[:min(len(a.Paths), statusesShown)] {
		p := &a.Paths[i]
		var sides []string
		for _, backing := range backings {
			sides = append(sides, side(backing.String(), figuresOf(backing, p.Pods, p.Instances)))
		}
		fmt.Fprintf(&b, "  %-9s  %s: %s\n", heading("paths", i), p.Path, strings.Join(sides, ", "))
	}
	return b.String()
}

func comparison(a *v1alpha1.ShiftAnalysis) string {
	if a == nil || a.Shadow == nil || a.Shadow.Compared == 0 {
		return ""
	}
	c := a.Shadow
	return fmt.Sprintf("; of %d pairs %d differ in status, %d in size; p99 %s, mirrored %s", c.Compared, c.StatusDiffers, c.SizeDiffers, c.P99, c.ShadowP99)
}

func methods(list []v1alpha1.ShiftMethod) string {
	words := make([]string, len(list))
	for i, m := range list {
		words[i] = string(m)
	}
	return strings.Join(words, ", ")
}

func direction(s *v1alpha1.TrafficShift) string {
	from, to := policy.FromTo(shift.DirectionOf(s))
	return fmt.Sprintf("from %s to %s", from, to)
}

// figuresOf returns what a status tells of a backing, for which it has a field each.
func figuresOf(backing discovery.BackingName, pods, instances *v1alpha1.ShiftFigures) *v1alpha1.ShiftFigures {
	switch backing {
	case discovery.Pods:
		return pods
	case discovery.Instances:
		return instances
	}
	return nil
}

// Phase is Pending for one that has not begun.
func Phase(s *v1alpha1.TrafficShift) string {
	if s.Status.Phase == "" {
		return string(v1alpha1.ShiftPending)
	}
	return string(s.Status.Phase)
}

// Percent is the share that the target has.
func Percent(s *v1alpha1.TrafficShift) string {
	switch {
	case s.Spec.Pin != "":
		return string(s.Spec.Pin)
	case s.Status.Percent == "":
		return "0"
	}
	return string(s.Status.Percent)
}

// Step is "2 of 5".
func Step(s *v1alpha1.TrafficShift) string {
	if s.Status.Phase == "" || s.Status.Step < 0 {
		return fmt.Sprintf("0 of %d", len(s.Spec.Steps))
	}
	return fmt.Sprintf("%d of %d", s.Status.Step+1, len(s.Spec.Steps))
}

// Verdict is what the guard says, "" for nothing yet.
func Verdict(s *v1alpha1.TrafficShift) string {
	if s.Status.Analysis == nil {
		return ""
	}
	return s.Status.Analysis.Verdict
}

// Budget is what is left of the error budget, "" for none.
func Budget(s *v1alpha1.TrafficShift) string {
	if s.Status.Budget == nil || s.Status.Budget.Remaining == "" {
		return ""
	}
	return s.Status.Budget.Remaining + " %"
}

func periodOf(s *v1alpha1.TrafficShift) time.Duration {
	if b := s.Spec.Guard.ErrorBudget; b != nil {
		return b.Period.Duration
	}
	return 0
}

// nextStep says what comes after the current step.
func nextStep(s *v1alpha1.TrafficShift) string {
	switch s.Status.Phase {
	case v1alpha1.ShiftCompleted:
		return ""
	case v1alpha1.ShiftRolledBack, v1alpha1.ShiftRollingBack:
		return fmt.Sprintf("nothing until somebody runs: causeway shift promote %s/%s", s.Namespace, s.Name)
	}
	i := int(s.Status.Step) + 1
	if s.Status.Phase == "" {
		i = 0
	}
	if i >= len(s.Spec.Steps) {
		if p := s.Spec.Steps[len(s.Spec.Steps)-1].Percent; p != "100" && p != "100.0" && p != "100.00" {
			return "nothing: the last step is under way"
		}
		return "complete: the target becomes the Service's home"
	}
	step := &s.Spec.Steps[i]
	text := string(step.Percent) + " %"
	if step.Shadow != nil {
		text = fmt.Sprintf("shadow %s %% of %s", step.Shadow.Percent, methods(step.Shadow.Methods))
	}
	if step.Hold != nil {
		text += fmt.Sprintf(", held for %s", step.Hold.Duration)
	}
	if step.Approval == v1alpha1.ApprovalRequired {
		text += ", which then waits for approval"
	}
	return text
}

package describe

import (
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// What a screen has of a shift.
const (
	// usual is how many entries of the history are told where there is no screen.
	usual = 8
	// widest is how many characters a share of 100 % is wide at most, and beside is what its line has besides.
	widest, beside = 100, 100
	// most is how many entries a status keeps.
	most = 64
)

// Screen is a shift for a person to watch, on a terminal of so many columns and rows: as many entries of its history as
// there is room for, and its long reasons cut where the rest would have none. With 0 columns there is no terminal.
func Screen(s *v1alpha1.TrafficShift, view *View, now time.Time, columns, rows int) string {
	if columns == 0 {
		return Shift(s, view, now, usual)
	}
	bar := min(max(barWidth, columns-beside), widest)
	text := ""
	for _, s := range []*v1alpha1.TrafficShift{s, InBrief(s, phrase.Brief)} {
		draw := func(history int) bool {
			text = phrase.Wrap(drawn(s, view, now, history, bar), columns)
			return strings.Count(text, "\n") <= rows
		}
		if !draw(min(1, len(s.Status.History))) {
			continue
		}
		for n := min(most, len(s.Status.History), rows); !draw(n); {
			n--
		}
		return text
	}
	return phrase.FirstLines(text, rows, "causeway shift status "+s.Namespace+"/"+s.Name)
}

// List is a table of shifts. A wide one says also which way traffic goes, since when the step is under way, what the
// sides answer and what each shift waits for.
func List(t *phrase.Table, view *View, now time.Time, wide bool) {
	head := []string{"SHIFT", "SERVICE", "PHASE", "PERCENT", "STEP", "VERDICT", "BUDGET LEFT"}
	if wide {
		head = append(head, "DIRECTION", "SINCE", "PODS", "INSTANCES", "WAITS")
	}
	t.Row(head...)
	for i := range view.Shifts {
		s := &view.Shifts[i]
		row := []string{s.Namespace + "/" + s.Name, s.Spec.ServiceRef.Name, Phase(s), Percent(s), Step(s), Verdict(s), Budget(s)}
		if wide {
			since, pods, instances := "", "", ""
			if at := s.Status.StepStarted; at != nil {
				since = phrase.Roughly(now.Sub(at.Time))
			}
			if a := s.Status.Analysis; a != nil {
				pods, instances = figuresText(&s.Spec.Guard, a.Pods), figuresText(&s.Spec.Guard, a.Instances)
			}
			row = append(row, direction(s), since, pods, instances, strings.Join(strings.Fields(s.Status.Waiting), " "))
		}
		t.Row(row...)
	}
}

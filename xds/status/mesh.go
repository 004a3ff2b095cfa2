package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Mesh is the first page to read in an incident: the state of this control
// plane, the troubles, the proxies, and the shifts under way.
type Mesh struct {
	Version string `json:"version"`
	// Serving is false until everything is known; WaitsFor says what is not.
	Serving  bool     `json:"serving"`
	WaitsFor []string `json:"waitsFor,omitempty"`
	// Leading is false on a replica that another one leads.
	Leading bool `json:"leading"`
	// StepsHere is true for a control plane without Kubernetes that steps TrafficShifts by itself,
	// which no other one may then; ShiftsFrom is what one that follows another one reads.
	StepsHere  bool     `json:"stepsHere,omitempty"`
	ShiftsFrom string   `json:"shiftsFrom,omitempty"`
	Sources    []Source `json:"sources"`
	// Objects counts all that was read.
	Objects int `json:"objects"`
	// Refused counts the objects that are not in force because a proxy refused a
	// resource of theirs: mostly the last good configuration is in force instead.
	Refused  int       `json:"objectsRefused"`
	NotRight []Trouble `json:"objectsWithTrouble"`
	// FailedOver lists Services whose home has no usable endpoint.
	FailedOver []string `json:"failedOver,omitempty"`
	// GuardHeld counts instances that the never-empty guard holds, by InstanceGroup.
	GuardHeld map[string]int `json:"guardHeld,omitempty"`
	Proxies   Proxies        `json:"proxies"`
	Shifts    *describe.View `json:"shifts"`
}

// Source is one source and how fresh it is.
type Source struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // ok, failing, or waiting
	LastSync time.Time `json:"lastSync,omitzero"`
	Error    string    `json:"error,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Note     string    `json:"note,omitempty"`
}

// Trouble is an object that is not in force, wholly or in part.
type Trouble struct {
	Object   string `json:"object"`
	Severity string `json:"severity"` // error, warning, NotProgrammed, or Refused
	Text     string `json:"text"`
}

// What stands beside the severities of findings.
const (
	notProgrammed = "NotProgrammed"
	refused       = "Refused"
)

// Proxies counts the connected proxies, and names those that are not in sync.
type Proxies struct {
	Connected int      `json:"connected"`
	InSync    int      `json:"inSync"`
	Behind    []Behind `json:"behind,omitempty"`
}

// Behind is a proxy that is not in sync.
type Behind struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// Plane is the control plane that a status is of.
type Plane struct {
	Version string
	// WaitsFor lists the sources without which nothing is served yet.
	WaitsFor []string
	// StepsHere and ShiftsFrom are those of Mesh.
	StepsHere  bool
	ShiftsFrom string
	Serving    bool
	Programmed observe.View
	Rejections []snapshot.Rejection
	Proxies    []server.ProxyStatus
}

// Of returns the state of everything.
func Of(r catalog.Reader, p *Plane) *Mesh {
	shifts := runner.ViewOf(r, "")
	findings := resolve.Validate(r)
	v := &Mesh{
		Version: p.Version, WaitsFor: p.WaitsFor, Serving: p.Serving, Leading: p.Programmed.Leading, StepsHere: p.StepsHere, ShiftsFrom: p.ShiftsFrom,
		NotRight: troubles(findings, &p.Programmed, p.Rejections), Proxies: summarizeProxies(p.Proxies), Shifts: &shifts,
	}
	for _, o := range v.NotRight {
		if o.Severity == refused {
			v.Refused++
		}
	}
	for st := range catalog.Sources.All(r) {
		v.Sources = append(v.Sources, summarizeSource(st))
	}
	for range catalog.Services.All(r) {
		v.Objects++
	}
	for i := range findings { // sorted by object: those of one Service are together
		if f := &findings[i]; f.Reason == policy.ReasonFailedOver && f.Object.Kind == discovery.KindService {
			v.FailedOver = append(v.FailedOver, f.Object.Key.String())
		}
	}
	v.FailedOver = slices.Compact(v.FailedOver)
	for range catalog.Objects.All(r) {
		v.Objects++
	}
	for st := range catalog.GroupStatuses.All(r) {
		if st.GuardHeld > 0 {
			if v.GuardHeld == nil {
				v.GuardHeld = make(map[string]int)
			}
			v.GuardHeld[st.Key.String()] = st.GuardHeld
		}
	}
	return v
}

func summarizeSource(st *discovery.SourceStatus) Source {
	out := Source{Name: st.Name, State: "ok", LastSync: st.LastSync, Error: st.Error, Since: st.ErrorSince, Note: st.Note}
	switch {
	case st.Error != "":
		out.State = "failing"
	case !st.Ready():
		out.State = "waiting"
	}
	return out
}

// troubles joins the findings of policy with the refusals of proxies. Errors come
// first.
func troubles(findings []policy.Finding, programmed *observe.View, rejections []snapshot.Rejection) []Trouble {
	out := []Trouble{}
	for _, f := range findings {
		text := f.Message
		if f.Field != "" {
			text = f.Field + ": " + text
		}
		if f.Remedy != "" {
			text += ": " + f.Remedy
		}
		out = append(out, Trouble{Object: f.Object.String(), Severity: f.Severity.String(), Text: text})
	}
	for _, o := range programmed.Objects {
		if o.Status != metav1.ConditionFalse {
			continue
		}
		severity := notProgrammed
		if o.Reason == observe.ReasonRejected || o.Reason == observe.ReasonHeldBack {
			severity = refused
		}
		out = append(out, Trouble{Object: o.String(), Severity: severity, Text: o.Reason + ": " + o.Message})
	}
	out = append(out, untold(out, rejections)...)
	rank := func(t Trouble) int {
		return slices.Index([]string{"error", refused, notProgrammed, "warning"}, t.Severity)
	}
	slices.SortStableFunc(out, func(a, b Trouble) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Object, b.Object))
	})
	return out
}

// untold returns a row for each refusal that no other row mentions: its object may be
// gone, or may never have existed, as for a proxy's own listener.
func untold(told []Trouble, rejections []snapshot.Rejection) []Trouble {
	names := make(map[string]bool)
	for _, o := range told {
		if o.Severity == refused {
			names[o.Object] = true
		}
	}
	var out []Trouble
	for i := range rejections {
		r := &rejections[i]
		object, known := r.Unit, false
		for j, ref := range r.Provenance {
			name := discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}.String()
			known = known || names[name]
			if j == 0 {
				object = name
			}
		}
		if known || names[object] {
			continue
		}
		names[object] = true
		after := "proxies that refuse it are without it"
		if r.Pinned {
			after = "the last good configuration stays in force for proxies like it"
		}
		out = append(out, Trouble{
			Object: object, Severity: refused, Text: fmt.Sprintf("%s refused %s %s: %s; %s", r.Node, r.Type, r.Name, r.Error, after),
		})
	}
	return out
}

func summarizeProxies(proxies []server.ProxyStatus) Proxies {
	out := Proxies{Connected: len(proxies)}
	for i := range proxies {
		p := &proxies[i]
		state := ProxyState(p)
		if state == "in sync" {
			out.InSync++
			continue
		}
		b := Behind{ID: p.ID, State: state}
		for _, t := range p.Types {
			if len(t.Rejected) > 0 {
				b.Error = refusedBriefly(t)
			}
		}
		out.Behind = append(out.Behind, b)
	}
	return out
}

// refusedBriefly tells in a few lines of a screen what a proxy refuses; causeway proxies has all of
// it.
func refusedBriefly(t server.TypeStatus) string {
	const names, bytes = 2, 160
	more := ""
	if n := len(t.Rejected) - names; n > 0 {
		t.Rejected, more = t.Rejected[:names], fmt.Sprintf(" and %d more", n)
	}
	text := strings.Join(strings.Fields(t.Error), " ")
	if len(text) > bytes {
		text = strings.ToValidUTF8(text[:bytes], "") + "…"
	}
	return fmt.Sprintf("%s %s%s: %s", t.Type, strings.Join(t.Rejected, ", "), more, text)
}

// Wrong reports whether anything needs somebody to look.
func (v *Mesh) Wrong() bool {
	for _, s := range v.Sources {
		if s.State != "ok" {
			return true
		}
	}
	for _, o := range v.NotRight {
		if o.Severity != policy.Warning.String() {
			return true
		}
	}
	for i := range v.Shifts.Shifts {
		status := &v.Shifts.Shifts[i].Status
		progressing := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionProgressing)
		if status.Phase == v1alpha1.ShiftRollingBack || status.Phase == v1alpha1.ShiftRolledBack ||
			progressing != nil && progressing.Reason == shift.ReasonGuardFailed {
			return true
		}
	}
	for _, p := range v.Proxies.Behind {
		if p.State != "waiting for ACK" && !strings.HasSuffix(p.State, "pending") {
			return true
		}
	}
	return !v.Serving || len(v.FailedOver) > 0 || len(v.GuardHeld) > 0
}

// Fit is a status with as many entries of each kind of trouble as a screen
// has room for beside the prompt, and with all of them where there is no screen.
func Fit(v *Mesh, now time.Time, columns, rows int, whole bool) string {
	most := len(v.Sources) + len(v.NotRight) + len(v.Proxies.Behind) + len(v.Shifts.Shifts)
	for {
		text := describeMesh(v, now, most, columns, whole)
		if rows == 0 || most <= 1 || strings.Count(text, "\n") < rows {
			return text
		}
		most = min(most-1, rows/4)
	}
}

// describeMesh is a status for a person to read: a line for what is well, and
// at most so many entries for each kind of trouble, broken at the width.
func describeMesh(v *Mesh, now time.Time, most, width int, whole bool) string {
	var b strings.Builder
	foreign := func(text string) string {
		if whole {
			return text
		}
		return phrase.Brief(text)
	}
	line := func(format string, args ...any) {
		b.WriteString(phrase.Wrap(fmt.Sprintf(format, args...)+"\n", width))
	}
	rest := func(n int, where string) {
		if n > most {
			line("           ... and %d more: %s", n-most, where)
		}
	}
	state := "serving"
	if !v.Serving {
		state = "not serving yet"
	}
	if !v.Leading {
		state += ", not the leader"
	}
	line("causeway   %s, %s", v.Version, state)
	if len(v.WaitsFor) > 0 {
		line("           waits for %s", strings.Join(v.WaitsFor, ", "))
	}
	sick := slices.DeleteFunc(slices.Clone(v.Sources), func(s Source) bool { return s.State == "ok" })
	line("sources    %d, %s", len(v.Sources), wellOr(len(sick), "not well"))
	for _, s := range sick[:min(most, len(sick))] {
		what := s.State
		if s.Error != "" {
			what += fmt.Sprintf(" for %s: %s", now.Sub(s.Since).Round(time.Second), s.Error)
		}
		line("  %s %s", s.Name, what)
	}
	rest(len(sick), "causeway status --all")
	count := fmt.Sprintf("objects    %d, %s", v.Objects, wellOr(len(v.NotRight), "with trouble"))
	if v.Refused > 0 {
		count += fmt.Sprintf(", %d of them refused by proxies", v.Refused)
	}
	line("%s", count)
	for _, o := range v.NotRight[:min(most, len(v.NotRight))] {
		text := o.Text
		if o.Severity == refused {
			text = foreign(text)
		}
		line("  %s: %s: %s", o.Severity, o.Object, text)
	}
	rest(len(v.NotRight), "causeway status --all")
	for _, s := range v.FailedOver {
		line("  failed over: Service %s: causeway endpoints %s", s, s)
	}
	for _, g := range slices.Sorted(maps.Keys(v.GuardHeld)) {
		line("  held: InstanceGroup %s: %d instances that EC2 no longer mentions", g, v.GuardHeld[g])
	}
	line("proxies    %d, %d in sync", v.Proxies.Connected, v.Proxies.InSync)
	for _, p := range v.Proxies.Behind[:min(most, len(v.Proxies.Behind))] {
		line("  %s %s %s", p.ID, p.State, foreign(p.Error))
	}
	rest(len(v.Proxies.Behind), "causeway proxies")
	shifts := slices.DeleteFunc(slices.Clone(v.Shifts.Shifts), func(s v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.ShiftCompleted })
	line("shifts     %d, %d under way%s", len(v.Shifts.Shifts), len(shifts), v.steppedBy())
	for i := range shifts[:min(most, len(shifts))] {
		s := &shifts[i]
		text := fmt.Sprintf("  %s/%s %s %s %%, step %s", s.Namespace, s.Name, describe.Phase(s), describe.Percent(s), describe.Step(s))
		if w := s.Status.Waiting; w != "" {
			text += ": " + w
		}
		line("%s", text)
	}
	rest(len(shifts), "causeway shift status")
	if v.Shifts.Freeze != nil {
		line("frozen     %s", v.Shifts.Freeze.Text())
	} else {
		line("frozen     nothing")
	}
	return b.String()
}

// steppedBy tells which control plane steps the shifts where none is elected: if two
// do, their proxies get different shares, and neither can know of the other.
func (v *Mesh) steppedBy() string {
	switch {
	case len(v.Shifts.Shifts) == 0:
		return ""
	case v.ShiftsFrom != "":
		return ", followed from " + v.ShiftsFrom
	case v.StepsHere:
		return ", stepped here: any other control plane needs --shifts-from"
	}
	return ""
}

func wellOr(n int, what string) string {
	if n == 0 {
		return "all well"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// ProxyState says in a few words how a proxy is.
func ProxyState(p *server.ProxyStatus) string {
	switch {
	case !p.StalledSince.IsZero():
		return "stalled for " + time.Since(p.StalledSince).Round(time.Second).String()
	case p.InSync && len(p.HeldBack) > 0:
		return fmt.Sprintf("%d held back", len(p.HeldBack))
	case p.InSync:
		return "in sync"
	case p.Pending > 0:
		return fmt.Sprintf("%d pending", p.Pending)
	}
	for _, s := range p.Types {
		if len(s.Rejected) > 0 {
			return "rejected"
		}
	}
	return "waiting for ACK"
}

// TypeState says in a word how a proxy is with the resources of a type, "" for one that it does not follow.
func TypeState(s server.TypeStatus) string {
	switch {
	case s.Type == "":
		return ""
	case len(s.Rejected) > 0:
		return "rejected"
	case !s.Acknowledged:
		return "sent"
	}
	return "ok"
}

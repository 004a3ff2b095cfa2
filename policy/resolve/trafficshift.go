package resolve

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// sessionCookies are the names that frameworks give to their session cookies,
// in lower case. A session's cookie changes at login, at logout and when it
// expires, and a user's cohort with it.
var sessionCookies = []string{
	"phpsessid", "laravel_session", "ci_session", "wordpress_logged_in", "jsessionid", "asp.net_sessionid", "connect.sid", "sessionid", "session",
	"_session_id", "sid",
}

// validateTrafficShift returns the findings about a TrafficShift. One with an
// error is not in force; what it has moved already stays where it is.
func validateTrafficShift(r catalog.Reader, o *discovery.Object) []policy.Finding {
	add, done := policy.FindingsOf(o)
	spec := &o.Spec.(*v1alpha1.TrafficShift).Spec
	v := shiftValidation{r: r, object: o, spec: spec, service: upstream.ShiftedService(o), add: add}
	v.steps()
	v.cookie()
	svc, ok := catalog.Services.Get(r, v.service.String())
	if !ok {
		v.refuse("spec.serviceRef.name", policy.ReasonTargetNotFound, fmt.Sprintf("there is no Service %s", v.service), "create it or correct the name")
		return done()
	}
	if all := upstream.ShiftsOf(r, v.service); len(all) > 0 && all[0].Key != o.Key {
		v.conflict(all[0])
		return done()
	}
	m := BuildService(r, v.service)
	if m == nil {
		v.refuse("spec.serviceRef.name", policy.ReasonInvalid, fmt.Sprintf("the mesh does not carry Service %s", v.service), notCarried(discovery.ObjectRef{}, svc).Remedy)
		return done()
	}
	v.checkBackings(m)
	v.protocols(m)
	v.balancing(m)
	v.settings(m)
	if _, to := policy.FromTo(spec.Direction); spec.Pin != "" {
		v.warn("spec.pin", policy.ReasonAccepted, fmt.Sprintf("the %s have %s%% whatever the steps and the guard say, and the shift stands still", to, spec.Pin),
			"remove it once the emergency is over")
	}
	return done()
}

// shiftValidation is a TrafficShift that is being looked at.
type shiftValidation struct {
	r       catalog.Reader
	object  *discovery.Object
	spec    *v1alpha1.TrafficShiftSpec
	service discovery.Key
	add     func(policy.Finding)
}

func (v *shiftValidation) refuse(field, reason, message, remedy string) {
	v.add(policy.Finding{Severity: policy.Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy})
}

func (v *shiftValidation) warn(field, reason, message, remedy string) {
	v.add(policy.Finding{Severity: policy.Warning, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy})
}

// conflict says which TrafficShift is in charge instead.
func (v *shiftValidation) conflict(winner *discovery.Object) {
	remedy := "remove one of the two: a Service has one TrafficShift"
	if upstream.StatusOfShift(v.r, winner).Phase == v1alpha1.ShiftCompleted {
		remedy = "remove the other one: it has completed, and what it has moved stays where it is"
	}
	why := "is older"
	if winner.Created.Equal(v.object.Created) {
		why = "is as old and first by name"
	}
	v.refuse("spec.serviceRef.name", policy.ReasonConflicted, fmt.Sprintf("%s %s and is in charge of Service %s", winner.Name(), why, v.service), remedy)
}

// steps says which steps do not go on from those before, and how they end.
func (v *shiftValidation) steps() {
	last, field := uint32(0), ""
	for i := range v.spec.Steps {
		share, ok := upstream.Millionths(v.spec.Steps[i].Percent)
		if !ok {
			continue
		}
		at := fmt.Sprintf("spec.steps[%d].percent", i)
		if share <= last {
			message := "0 is where every shift begins"
			if field != "" {
				message = fmt.Sprintf("%s is not more than what %s has", v.spec.Steps[i].Percent, strings.TrimSuffix(field, ".percent"))
			}
			v.refuse(at, policy.ReasonInvalid, message, "let each step have more than the one before: the way back is the guard's, or `causeway shift rollback`")
		}
		last, field = max(last, share), at
	}
	switch {
	case field == "":
		v.warn("spec.steps", policy.ReasonAccepted, "no step has a percent, so no traffic moves", "add steps with a percent, up to 100")
	case last < policy.ShareTotal:
		v.warn("spec.steps", policy.ReasonAccepted, "the last step has less than 100 percent, so the shift never completes", "end with percent: \"100\", if all traffic is to move")
	}
}

// cookie says what makes a cookie a bad key.
func (v *shiftValidation) cookie() {
	if v.spec.Cohort == nil || v.spec.Cohort.Cookie == nil {
		return
	}
	c := v.spec.Cohort.Cookie
	const field = "spec.cohort.cookie"
	if slices.Contains(sessionCookies, strings.ToLower(c.Name)) {
		if c.TTL != nil {
			v.warn(field+".name", policy.ReasonAccepted, fmt.Sprintf("%s is a session's cookie: the mesh sets one of this name to users who have none, and the application would take it for a session", c.Name),
				"give the mesh's cookie a name of its own, for example causeway")
		} else {
			v.warn(field+".name", policy.ReasonAccepted, fmt.Sprintf("%s is a session's cookie: the application renews it, PHP at login, and the user may then change sides", c.Name),
				"name a cookie that stays, or one of the mesh's own: {name: causeway, ttl: 720h}")
		}
	}
	if c.TTL == nil {
		return
	}
	var holds time.Duration
	for i := range v.spec.Steps {
		if h := v.spec.Steps[i].Hold; h != nil {
			holds += h.Duration
		}
	}
	if c.TTL.Duration < holds {
		v.warn(field+".ttl", policy.ReasonAccepted, fmt.Sprintf("the cookie ends after %s while the steps hold for %s: users get another one then and may change sides", c.TTL.Duration, holds),
			"let it last longer than all steps together")
	}
}

// checkBackings reports what is wrong with the backings that the traffic comes
// from and goes to.
func (v *shiftValidation) checkBackings(m *policy.Service) {
	source, target := policy.FromTo(v.spec.Direction)
	if m.Unknown != "" {
		v.refuse("spec.serviceRef", policy.ReasonUnknownHome, fmt.Sprintf("who has the traffic of Service %s is not known, so none is moved: %s", v.service, m.Unknown),
			"see the sources of causeway status for what to do")
		return
	}
	if m.Home == target && m.Shift != nil && !upstream.Begun(upstream.StatusOfShift(v.r, v.object)) {
		v.refuse("spec.direction", policy.ReasonInvalid, fmt.Sprintf("the %s are the home of Service %s already (%s), so there is nothing to move", target, v.service, m.HomeBecause),
			fmt.Sprintf("state direction: %s, or remove the TrafficShift", policy.Opposite(v.spec.Direction)))
	}
	s := upstream.StatusOfShift(v.r, v.object)
	if _, moved := upstream.MovedBetween(v.spec, s); s.Phase == v1alpha1.ShiftCompleted && m.Shift == nil && m.Home != moved {
		v.warn("spec.serviceRef", policy.ReasonAccepted, fmt.Sprintf("it has completed and keeps all traffic with the %s, although the %s are the Service's home (%s)", moved, m.Home, m.HomeBecause),
			fmt.Sprintf("to take the traffic back in steps, state direction: %s; removing the TrafficShift takes it home at once", policy.Opposite(cmp.Or(s.Direction, v.spec.Direction))))
	}
	for _, side := range []struct {
		backing discovery.BackingName
		meaning string
	}{{target, "traffic is to move to"}, {source, "traffic is to move from"}} {
		if v.hasBacking(side.backing) {
			continue
		}
		remedy := "deploy them with the Service's selector"
		if side.backing == discovery.Instances {
			remedy = "attach them with an InstanceGroup"
		}
		v.add(policy.Finding{
			Severity: policy.Warning, Field: "spec.serviceRef", Condition: v1alpha1.ConditionResolvedRefs, Reason: policy.ReasonBackendNotFound,
			Message: fmt.Sprintf("Service %s has no %s, which %s", v.service, side.backing, side.meaning), Remedy: remedy,
		})
	}
}

// hasBacking reports whether a Service has anything of a backing.
func (v *shiftValidation) hasBacking(p discovery.BackingName) bool {
	if p == discovery.Instances {
		for range catalog.InstanceGroups.Of(v.r, v.service) {
			return true
		}
	}
	for s := range catalog.Endpoints.By(v.r, catalog.ByService, v.service.String()) {
		if s.Platform == p && len(s.Endpoints) > 0 {
			return true
		}
	}
	return false
}

// protocols says what means nothing where no port speaks HTTP.
func (v *shiftValidation) protocols(m *policy.Service) {
	if slices.ContainsFunc(m.Ports, func(p policy.Port) bool { return p.Protocol != policy.TCP }) {
		return
	}
	const remedy = "remove it, or correct the protocol of the Service's ports"
	why := fmt.Sprintf("no port of Service %s is HTTP: ", v.service)
	if v.spec.Cohort != nil {
		v.refuse("spec.cohort", policy.ReasonInvalid, why+"connections have no cookies and no headers, so each is on its own", remedy)
	}
	for i := range v.spec.Steps {
		if v.spec.Steps[i].Shadow != nil {
			v.refuse(fmt.Sprintf("spec.steps[%d].shadow", i), policy.ReasonInvalid, why+"connections cannot be copied", remedy)
		}
	}
	if v.spec.Guard.Latency != nil {
		v.warn("spec.guard.latency", policy.ReasonUnsupported, why+"connections last as long as their callers want, so no latency is judged", remedy)
	}
}

// balancing says how a cohort meets what else keeps requests together.
func (v *shiftValidation) balancing(m *policy.Service) {
	cohort := upstream.CohortOf(v.spec.Cohort)
	for i := range m.Ports {
		p := &m.Ports[i]
		hash := p.Settings.Hash()
		if cohort != nil && hash.Value != nil && !cohort.SameKey(hash.Value) {
			v.warn("spec.cohort", policy.ReasonUnsupported,
				fmt.Sprintf("%s has requests to port %d hashed by another key: while the shift is under way the cohort's key chooses the endpoint too", hash.From, p.Number),
				"hash by the cohort's key, or expect requests to meet other endpoints until the shift has completed")
		}
		if cohort != nil && m.ClientIP && p.Protocol != policy.TCP && hash.Value == nil {
			v.warn("spec.cohort", policy.ReasonAccepted,
				fmt.Sprintf("Service %s has sessionAffinity: ClientIP: while the shift is under way the cohort's key chooses the endpoint of port %d, not the caller's address", m.Key, p.Number),
				"expect each user to stay at one endpoint, and users of one caller to meet several, until the shift has completed")
		}
		if ref, ok := sessionsOf(p); ok {
			message := "every request is on its own, so a client's next request may go to the other side and leave its endpoint"
			if cohort != nil {
				message = "the cohort chooses the side first, so sessions stay until a step moves their user, and begin anew there"
			}
			v.warn("spec.cohort", policy.ReasonAccepted,
				fmt.Sprintf("%s keeps sessions of port %d at their endpoint: %s; and as long as they are kept no side stands in for the other", ref, p.Number, message),
				"keep sessions in a store that both sides reach, and remove sessionPersistence")
		}
	}
}

// settings says which policies about InstanceGroups have no effect, because
// both backings of a port that is not HTTP are one cluster.
func (v *shiftValidation) settings(m *policy.Service) {
	for i := range m.Ports {
		p := &m.Ports[i]
		pods, instances := p.Backing(discovery.Pods), p.Backing(discovery.Instances)
		if p.Protocol != policy.TCP || pods == nil || instances == nil {
			continue
		}
		for _, section := range slices.Sorted(maps.Keys(instances.Settings.From)) {
			if ref := instances.Settings.From[section]; ref != pods.Settings.From[section] {
				v.warn("spec.serviceRef", policy.ReasonUnsupported,
					fmt.Sprintf("port %d is not HTTP, so what %s says of %s to an InstanceGroup does not hold: both backings are one cluster, and what is said of the Service counts", p.Number, ref, section),
					"say it of the Service")
			}
		}
	}
}

// sessionsOf returns what keeps sessions of a port's requests at endpoints.
func sessionsOf(p *policy.Port) (discovery.ObjectName, bool) {
	if p.HTTP == nil {
		ref, ok := p.Settings.From["sessionPersistence"]
		return discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}, ok
	}
	for i := range p.HTTP.Rules {
		rule := &p.HTTP.Rules[i]
		if s := rule.Session(); s.Value != nil {
			return discovery.ObjectName{Kind: s.From.Object.Kind, Key: s.From.Object.Key}, true
		}
	}
	return discovery.ObjectName{}, false
}

// shiftConditions returns the conditions Accepted and ResolvedRefs of a TrafficShift.
func shiftConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	findings := validateTrafficShift(r, o)
	for _, f := range findings {
		if f.Reason == policy.ReasonTargetNotFound {
			f.Condition, f.Reason = v1alpha1.ConditionResolvedRefs, policy.ReasonBackendNotFound
			findings = append(findings, f)
		}
	}
	out := []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, policy.ReasonAccepted, "the object is valid and in charge of the Service's shares", findings),
		condition(v1alpha1.ConditionResolvedRefs, policy.ReasonResolvedRefs, "the Service exists, and has pods and instances", findings),
	}
	for i := range out {
		out[i].ObservedGeneration = o.Generation
	}
	return out
}

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
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
func validateTrafficShift(r catalog.Reader, o *discovery.Object) []Finding {
	add, done := findingsOf(o)
	spec := &o.Spec.(*v1alpha1.TrafficShift).Spec
	v := shiftValidation{r: r, object: o, spec: spec, service: shiftedService(o), add: add}
	v.steps()
	v.cookie()
	svc, ok := catalog.Services.Get(r, v.service.String())
	if !ok {
		v.refuse("spec.serviceRef.name", ReasonTargetNotFound, fmt.Sprintf("there is no Service %s", v.service), "create it or correct the name")
		return done()
	}
	if all := shiftsOf(r, v.service); len(all) > 0 && all[0].Key != o.Key {
		v.conflict(all[0])
		return done()
	}
	m := BuildService(r, v.service)
	if m == nil {
		v.refuse("spec.serviceRef.name", ReasonInvalid, fmt.Sprintf("the mesh does not carry Service %s", v.service), notCarried(discovery.ObjectRef{}, svc).Remedy)
		return done()
	}
	v.sides(m)
	v.protocols(m)
	v.balancing(m)
	v.settings(m)
	if spec.Pin != "" {
		v.warn("spec.pin", ReasonAccepted, fmt.Sprintf("the %s have %s%% whatever the steps and the guard say, and the shift stands still", TargetOf(spec), spec.Pin),
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
	add     func(Finding)
}

func (v *shiftValidation) refuse(field, reason, message, remedy string) {
	v.add(Finding{Severity: Error, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy})
}

func (v *shiftValidation) warn(field, reason, message, remedy string) {
	v.add(Finding{Severity: Warning, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: reason, Message: message, Remedy: remedy})
}

// conflict says which TrafficShift is in charge instead.
func (v *shiftValidation) conflict(winner *discovery.Object) {
	remedy := "remove one of the two: a Service has one TrafficShift"
	if statusOfShift(v.r, winner).Phase == v1alpha1.ShiftCompleted {
		remedy = "remove the other one: it has completed, and what it has moved stays where it is"
	}
	why := "is older"
	if winner.Created.Equal(v.object.Created) {
		why = "is as old and first by name"
	}
	v.refuse("spec.serviceRef.name", ReasonConflicted, fmt.Sprintf("%s %s and is in charge of Service %s", winner.Name(), why, v.service), remedy)
}

// steps says which steps do not go on from those before, and how they end.
func (v *shiftValidation) steps() {
	last, field := uint32(0), ""
	for i := range v.spec.Steps {
		share, ok := Millionths(v.spec.Steps[i].Percent)
		if !ok {
			continue
		}
		at := fmt.Sprintf("spec.steps[%d].percent", i)
		if share <= last {
			message := "0 is where every shift begins"
			if field != "" {
				message = fmt.Sprintf("%s is not more than what %s has", v.spec.Steps[i].Percent, strings.TrimSuffix(field, ".percent"))
			}
			v.refuse(at, ReasonInvalid, message, "let each step have more than the one before: the way back is the guard's, or `causeway shift rollback`")
		}
		last, field = max(last, share), at
	}
	switch {
	case field == "":
		v.warn("spec.steps", ReasonAccepted, "no step has a percent, so no traffic moves", "add steps with a percent, up to 100")
	case last < ShareTotal:
		v.warn("spec.steps", ReasonAccepted, "the last step has less than 100 percent, so the shift never completes", "end with percent: \"100\", if all traffic is to move")
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
			v.warn(field+".name", ReasonAccepted, fmt.Sprintf("%s is a session's cookie: the mesh sets one of this name to users who have none, and the application would take it for a session", c.Name),
				"give the mesh's cookie a name of its own, for example causeway")
		} else {
			v.warn(field+".name", ReasonAccepted, fmt.Sprintf("%s is a session's cookie: the application renews it, PHP at login, and the user may then change sides", c.Name),
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
		v.warn(field+".ttl", ReasonAccepted, fmt.Sprintf("the cookie ends after %s while the steps hold for %s: users get another one then and may change sides", c.TTL.Duration, holds),
			"let it last longer than all steps together")
	}
}

// sides says what is wrong with where the traffic comes from and goes to.
func (v *shiftValidation) sides(m *Service) {
	target := TargetOf(v.spec)
	if m.Unknown != "" {
		v.refuse("spec.serviceRef", ReasonUnknownHome, fmt.Sprintf("who has the traffic of Service %s is not known, so none is moved: %s", v.service, m.Unknown),
			"see the sources of causeway status for what to do")
		return
	}
	if m.Home == target && m.Shift != nil && !begun(statusOfShift(v.r, v.object)) {
		v.refuse("spec.direction", ReasonInvalid, fmt.Sprintf("the %s are the home of Service %s already (%s), so there is nothing to move", target, v.service, m.HomeBecause),
			fmt.Sprintf("state direction: %s, or remove the TrafficShift", opposite(target)))
	}
	if s := statusOfShift(v.r, v.object); s.Phase == v1alpha1.ShiftCompleted && m.Shift == nil && m.Home != movedTo(v.spec, s) {
		v.warn("spec.serviceRef", ReasonAccepted, fmt.Sprintf("it has completed and keeps all traffic with the %s, although the %s are the Service's home (%s)", movedTo(v.spec, s), m.Home, m.HomeBecause),
			fmt.Sprintf("to take the traffic back in steps, state direction: %s; removing the TrafficShift takes it home at once", opposite(movedTo(v.spec, s))))
	}
	for _, side := range []struct {
		platform discovery.Platform
		meaning  string
	}{{target, "traffic is to move to"}, {target.Other(), "traffic is to move from"}} {
		if v.hasBacking(side.platform) {
			continue
		}
		remedy := "deploy them with the Service's selector"
		if side.platform == discovery.Instances {
			remedy = "attach them with an InstanceGroup"
		}
		v.add(Finding{
			Severity: Warning, Field: "spec.serviceRef", Condition: v1alpha1.ConditionResolvedRefs, Reason: ReasonBackendNotFound,
			Message: fmt.Sprintf("Service %s has no %s, which %s", v.service, side.platform, side.meaning), Remedy: remedy,
		})
	}
}

// opposite returns the direction that takes traffic away from a backing.
func opposite(target discovery.Platform) v1alpha1.ShiftDirection {
	if target == discovery.Instances {
		return v1alpha1.InstancesToPods
	}
	return v1alpha1.PodsToInstances
}

// hasBacking reports whether a Service has anything on a platform.
func (v *shiftValidation) hasBacking(p discovery.Platform) bool {
	if p == discovery.Instances {
		for range catalog.InstanceGroups.By(v.r, catalog.ByService, v.service.String()) {
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
func (v *shiftValidation) protocols(m *Service) {
	if slices.ContainsFunc(m.Ports, func(p Port) bool { return p.Protocol != TCP }) {
		return
	}
	const remedy = "remove it, or correct the protocol of the Service's ports"
	why := fmt.Sprintf("no port of Service %s is HTTP: ", v.service)
	if v.spec.Cohort != nil {
		v.refuse("spec.cohort", ReasonInvalid, why+"connections have no cookies and no headers, so each is on its own", remedy)
	}
	for i := range v.spec.Steps {
		if v.spec.Steps[i].Shadow != nil {
			v.refuse(fmt.Sprintf("spec.steps[%d].shadow", i), ReasonInvalid, why+"connections cannot be copied", remedy)
		}
	}
	if v.spec.Guard.Latency != nil {
		v.warn("spec.guard.latency", ReasonUnsupported, why+"connections last as long as their callers want, so no latency is judged", remedy)
	}
}

// balancing says how a cohort meets what else keeps requests together.
func (v *shiftValidation) balancing(m *Service) {
	cohort := cohortOf(v.spec.Cohort)
	for i := range m.Ports {
		p := &m.Ports[i]
		hash := p.Settings.Hash()
		if cohort != nil && hash.Value != nil && !cohort.sameKey(hash.Value) {
			v.warn("spec.cohort", ReasonUnsupported,
				fmt.Sprintf("%s has requests to port %d hashed by another key: while the shift is under way the cohort's key chooses the endpoint too", hash.From, p.Number),
				"hash by the cohort's key, or expect requests to meet other endpoints until the shift has completed")
		}
		if cohort != nil && m.ClientIP && p.Protocol != TCP && hash.Value == nil {
			v.warn("spec.cohort", ReasonAccepted,
				fmt.Sprintf("Service %s has sessionAffinity: ClientIP: while the shift is under way the cohort's key chooses the endpoint of port %d, not the caller's address", m.Key, p.Number),
				"expect each user to stay at one endpoint, and users of one caller to meet several, until the shift has completed")
		}
		if ref, ok := sessionsOf(p); ok {
			message := "every request is on its own, so a client's next request may go to the other side and leave its endpoint"
			if cohort != nil {
				message = "the cohort chooses the side first, so sessions stay until a step moves their user, and begin anew there"
			}
			v.warn("spec.cohort", ReasonAccepted,
				fmt.Sprintf("%s keeps sessions of port %d at their endpoint: %s; and as long as they are kept no side stands in for the other", ref, p.Number, message),
				"keep sessions in a store that both sides reach, and remove sessionPersistence")
		}
	}
}

// settings says which policies about InstanceGroups have no effect, because
// both backings of a port that is not HTTP are one cluster.
func (v *shiftValidation) settings(m *Service) {
	for i := range m.Ports {
		p := &m.Ports[i]
		pods, instances := p.backing(discovery.Pods), p.backing(discovery.Instances)
		if p.Protocol != TCP || pods == nil || instances == nil {
			continue
		}
		for _, section := range slices.Sorted(maps.Keys(instances.Settings.From)) {
			if ref := instances.Settings.From[section]; ref != pods.Settings.From[section] {
				v.warn("spec.serviceRef", ReasonUnsupported,
					fmt.Sprintf("port %d is not HTTP, so what %s says of %s to an InstanceGroup does not hold: both backings are one cluster, and what is said of the Service counts", p.Number, ref, section),
					"say it of the Service")
			}
		}
	}
}

// sessionsOf returns what keeps sessions of a port's requests at endpoints.
func sessionsOf(p *Port) (discovery.ObjectName, bool) {
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

// sameKey reports whether a hash is of what tells the cohorts apart.
func (c *Cohort) sameKey(h *v1alpha1.HashKey) bool {
	if c.Cookie != "" {
		return h.Cookie != nil && h.Cookie.Name == c.Cookie
	}
	return strings.EqualFold(h.Header, c.Header)
}

// String names the key: "cookie causeway" or "header x-user".
func (c *Cohort) String() string {
	if c.Cookie != "" {
		return "cookie " + c.Cookie
	}
	return "header " + c.Header
}

// shiftConditions returns the conditions Accepted and ResolvedRefs of a TrafficShift.
func shiftConditions(r catalog.Reader, o *discovery.Object) []metav1.Condition {
	findings := validateTrafficShift(r, o)
	for _, f := range findings {
		if f.Reason == ReasonTargetNotFound {
			f.Condition, f.Reason = v1alpha1.ConditionResolvedRefs, ReasonBackendNotFound
			findings = append(findings, f)
		}
	}
	out := []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, ReasonAccepted, "the object is valid and in charge of the Service's shares", findings),
		condition(v1alpha1.ConditionResolvedRefs, ReasonResolvedRefs, "the Service exists, and has pods and instances", findings),
	}
	for i := range out {
		out[i].ObservedGeneration = o.Generation
	}
	return out
}

// cohortConflicts notes which backends of a rule would tell users apart by
// another key than the first of them: a request is hashed once.
func (b *routeBuilder) cohortConflicts(refs []namedBackend, backends []Backend) {
	var first *Backend
	for i := range backends {
		to := &backends[i]
		if to.Shift == nil || to.Shift.Cohort == nil {
			continue
		}
		if first == nil {
			first = to
			continue
		}
		if *to.Shift.Cohort == *first.Shift.Cohort {
			continue
		}
		b.find(Error, v1alpha1.ConditionAccepted, ReasonConflicted, refs[to.Index].field, fmt.Sprintf(
			"%s tells users of Service %s apart by %s, and %s those of Service %s by %s, which stands first and has the rule",
			to.Shift.Object, to.Key, to.Shift.Cohort, first.Shift.Object, first.Key, first.Shift.Cohort),
			"give both TrafficShifts the same cohort, or shift one after the other")
	}
}

// unshadowed notes that requests of a rule with several backends are not copied.
func (b *routeBuilder) unshadowed(refs []namedBackend, backends []Backend) {
	if len(backends) < 2 {
		return
	}
	for i := range backends {
		if s := backends[i].Shift; s != nil && s.Shadow != nil {
			b.find(Warning, v1alpha1.ConditionAccepted, ReasonUnsupported, refs[backends[i].Index].field, fmt.Sprintf(
				"requests of this rule are not copied for %s: a proxy copies all requests of a rule, those to its other backends too", s.Object),
				"nothing, or give the Service a rule of its own while the shift shadows")
		}
	}
}

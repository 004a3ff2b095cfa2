package upstream

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The values of the home annotation.
const (
	HomeInstances = "Instances"
	HomePods      = "Pods"
)

// ParseHome returns the backing that a home annotation names.
func ParseHome(s string) (discovery.BackingName, bool) {
	switch s {
	case HomeInstances:
		return discovery.Instances, true
	case HomePods:
		return discovery.Pods, true
	}
	return "", false
}

// HomeValue returns how a home annotation names a backing, "" for one that it cannot name.
func HomeValue(backing discovery.BackingName) string {
	for _, value := range []string{HomePods, HomeInstances} {
		if b, _ := ParseHome(value); b == backing {
			return value
		}
	}
	return ""
}

// HomeOf returns a Service's home backing and, in a sentence, its origin: the
// annotation, the record of an earlier observation, or, the first time, the rule
// "instances if an InstanceGroup is attached, else pods". An annotation that has
// not changed since a TrafficShift completed does not count: the traffic has moved
// on since it was written. If UnknownHome says that the home was recorded and
// cannot be read, the result is a guess, and no traffic follows it.
func HomeOf(r catalog.Reader, svc *discovery.Service) (discovery.BackingName, string) {
	rec, recorded := catalog.Homes.Get(r, svc.Key.String())
	stale := recorded && Supersedes(rec, svc)
	if home, ok := ParseHome(svc.Home); ok && !stale {
		return home, fmt.Sprintf("annotation %s: %s", v1alpha1.HomeAnnotation, svc.Home)
	}
	if recorded && rec.Unknown == "" {
		because := "recorded earlier: " + rec.Because
		if stale {
			because += fmt.Sprintf(", after the annotation %s: %s was written", v1alpha1.HomeAnnotation, svc.Home)
		}
		return rec.Platform, because
	}
	for g := range catalog.InstanceGroups.Of(r, svc.Key) {
		return discovery.Instances, guessed(r, svc, rec, fmt.Sprintf("InstanceGroup %s was attached when the Service was first seen", g.Name))
	}
	return discovery.Pods, guessed(r, svc, rec, "no InstanceGroup was attached when the Service was first seen")
}

// UnknownHome says why the home of a Service is not known, "" if it is: it was recorded, or may have
// been, and cannot be read, and no annotation that counts states it; or it was not, and the InstanceGroup that
// would decide cannot be read. A guess would move traffic.
func UnknownHome(r catalog.Reader, svc *discovery.Service) string {
	rec, recorded := catalog.Homes.Get(r, svc.Key.String())
	if _, stated := ParseHome(svc.Home); stated && (!recorded || !Supersedes(rec, svc)) {
		return ""
	}
	if recorded {
		return rec.Unknown
	}
	for range catalog.InstanceGroups.Of(r, svc.Key) {
		return ""
	}
	return effective.Unread(r, discovery.KindInstanceGroup, policy.ServiceUnit(svc.Key))
}

// guessed returns what made the home of a Service without a record, or that it
// is a guess because there may be one that cannot be read.
func guessed(r catalog.Reader, svc *discovery.Service, rec *discovery.Home, because string) string {
	if rec != nil && rec.Unknown != "" {
		return "a guess, and no traffic goes by it: the recorded home cannot be read: " + rec.Unknown
	}
	if s, ok := catalog.Sources.Get(r, discovery.HomesSource); ok && !s.Ready() {
		return "a guess: recorded homes cannot be read, and nothing is served meanwhile: causeway status"
	}
	if why := UnknownHome(r, svc); why != "" {
		return "a guess, and no traffic goes by it: " + why
	}
	return because
}

// Supersedes reports whether a record counts and not the annotation.
func Supersedes(rec *discovery.Home, svc *discovery.Service) bool {
	return rec.Supersedes != "" && rec.Supersedes == svc.Home
}

// UnrecordedHomes returns the records that are missing or that an annotation
// contradicts: a Service's home must stay where it is when the annotation, the
// InstanceGroup or the pods go away later. The record of a Service that is gone
// stays too, so that deleting and creating it again does not move its traffic.
// The record of a completed TrafficShift stays as it is for as long as the
// annotation says what it said then; after that it is a record like others.
//
// A home that is not known is not recorded: it would be a guess for ever.
//
// It returns nothing while a source of objects has not been read: an InstanceGroup
// that is not known yet must not be taken for none. Nor is one that cannot be
// read, or that came while the reading of them fails. What is known of the
// instances themselves does not matter here.
func UnrecordedHomes(r catalog.Reader) []discovery.Home {
	for source := range catalog.Sources.All(r) {
		if !source.Ready() && !source.OfInstances() {
			return nil
		}
	}
	groups, ok := catalog.Sources.Get(r, discovery.GroupsSource)
	failing := ok && groups.Error != ""
	var out []discovery.Home
	for svc := range catalog.Services.All(r) {
		if UnknownHome(r, svc) != "" {
			continue
		}
		home, because := HomeOf(r, svc)
		rec, ok := catalog.Homes.Get(r, svc.Key.String())
		ok = ok && rec.Unknown == ""
		if ok && rec.Platform == home && (rec.Supersedes == "" || Supersedes(rec, svc)) {
			continue
		}
		_, annotated := ParseHome(svc.Home)
		if failing && !ok && !annotated && home == discovery.Pods {
			continue
		}
		if ok && !annotated {
			because = rec.Because
		}
		out = append(out, discovery.Home{Key: svc.Key, Platform: home, Because: because})
	}
	return out
}

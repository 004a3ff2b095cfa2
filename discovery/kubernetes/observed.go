package kubernetes

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// observation is our part of an object's status, as far as that is needed to
// decide whether it must be written. Every replica keeps it, in little memory,
// so that a new leader need not read every object, and writes only what
// differs.
type observation struct {
	uid     types.UID
	version string
	// said is a digest of our part without Programmed, and programmed one of
	// that condition; 0 where there is none.
	said, programmed uint64
	// gateway is the whole status of a Gateway, nil for other kinds: Programmed
	// occurs in it many times, and there are few Gateways.
	gateway *gatewayv1.GatewayStatus
}

// observationOf returns the observation of an object.
func observationOf(o metav1.Object) observation {
	status := statusIn(o)
	said, programmed := digest(ours(status))
	return observation{uid: o.GetUID(), version: o.GetResourceVersion(), said: said, programmed: programmed, gateway: status.Gateway}
}

// observations keeps the newest observation of each object. Its methods may be
// called concurrently.
type observations struct {
	mu     sync.Mutex
	byName map[discovery.ObjectName]observation
}

func newObservations() *observations {
	return &observations{byName: make(map[discovery.ObjectName]observation)}
}

// put notes an observation, unless a newer one of the same object is known: the
// answer to a write may come before the watch's event of an earlier one.
func (o *observations) put(name discovery.ObjectName, next observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old, ok := o.byName[name]; ok && old.uid == next.uid {
		if order, err := resourceversion.CompareResourceVersion(old.version, next.version); err == nil && order > 0 {
			return
		}
	}
	o.byName[name] = next
}

func (o *observations) get(name discovery.ObjectName) (observation, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, ok := o.byName[name]
	return out, ok
}

func (o *observations) forget(name discovery.ObjectName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byName, name)
}

// retain forgets the objects of a kind that are not in keys.
func (o *observations) retain(kind string, keys map[discovery.Key]struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name := range o.byName {
		if _, ok := keys[name.Key]; name.Kind == kind && !ok {
			delete(o.byName, name)
		}
	}
}

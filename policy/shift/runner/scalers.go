package runner

import (
	"context"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// scaleEvery is how often HorizontalPodAutoscalers are read; their controller
// itself looks every 15 s.
const scaleEvery = 5 * time.Second

// scalers are the HorizontalPodAutoscalers of the shifts' pods, as last read.
type scalers struct {
	runner *Runner

	mu  sync.Mutex
	all map[discovery.Key]scaler // by the name of the autoscaler
}

type scaler struct {
	found   *shift.Autoscaler
	problem string
}

func newScalers(r *Runner) *scalers { return &scalers{runner: r, all: make(map[discovery.Key]scaler)} }

// scalerOf returns the name of a shift's autoscaler, and whether the shift itself names it.
func scalerOf(object *v1alpha1.TrafficShift) (key discovery.Key, stated bool) {
	if c := object.Spec.Capacity; c != nil && c.HorizontalPodAutoscaler != "" {
		return discovery.Key{Namespace: object.Namespace, Name: c.HorizontalPodAutoscaler}, true
	}
	return discovery.Key{Namespace: object.Namespace, Name: object.Spec.ServiceRef.Name}, false
}

// of returns the autoscaler of a shift's pods, nil for none, and why it is not known.
func (s *scalers) of(object *v1alpha1.TrafficShift) (found *shift.Autoscaler, problem string) {
	key, stated := scalerOf(object)
	s.mu.Lock()
	defer s.mu.Unlock()
	got, read := s.all[key]
	switch {
	case !read:
		return nil, "HorizontalPodAutoscaler " + key.String() + " was not read yet"
	case got.problem != "":
		return nil, got.problem
	case got.found == nil && stated:
		return nil, "there is no HorizontalPodAutoscaler " + key.String() + ": create it, or correct spec.capacity.horizontalPodAutoscaler"
	}
	return got.found, ""
}

// run reads until the context ends.
func (s *scalers) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wanted := make(map[discovery.Key]bool)
		unread := false
		for o := range catalog.Objects.By(s.runner.opts.Catalog.Read(), catalog.ByKind, discovery.KindTrafficShift) {
			key, _ := scalerOf(o.Spec.(*v1alpha1.TrafficShift))
			wanted[key] = true
		}
		for key := range wanted {
			s.read(ctx, key)
		}
		s.mu.Lock()
		for key := range s.all {
			if !wanted[key] {
				delete(s.all, key)
			}
		}
		unread = len(wanted) == 0
		s.mu.Unlock()
		if unread {
			timer.Reset(every) // a first shift should not wait for long
		} else {
			timer.Reset(scaleEvery)
		}
	}
}

func (s *scalers) read(ctx context.Context, key discovery.Key) {
	a, ok, err := s.runner.store.Autoscaler(ctx, key.Namespace, key.Name)
	got := scaler{}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		got.problem = "HorizontalPodAutoscaler " + key.String() + " cannot be read: " + err.Error()
	case ok:
		got.found = &shift.Autoscaler{Name: key.Name, Current: a.Current, Minimum: a.Minimum, Maximum: a.Maximum, Limited: a.Limited}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[key] = got
}

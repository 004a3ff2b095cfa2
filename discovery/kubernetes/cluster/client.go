// Package cluster reaches a cluster. It has what those who read one and those who act on one
// have in common: clients, the kinds that CRDs define, and the form of small records. It
// knows no rows.
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	clientdiscovery "k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Client reaches one cluster.
type Client struct {
	Core     kubernetes.Interface
	Served   clientdiscovery.DiscoveryInterfaceWithContext
	Metadata metadata.Interface
	// Objects reads the kinds that CRDs define, as Object. Statuses writes their status, and has no
	// limit of its own: who writes status keeps one.
	Objects, Statuses rest.Interface
	// Groups reads InstanceGroups and writes their status.
	Groups rest.Interface
	// Shifts reads and writes TrafficShifts, without a limit: a way back must not
	// wait until other requests are through.
	Shifts rest.Interface
	types  *runtime.Scheme
	// Namespace is the control plane's own.
	Namespace string
	Log       *slog.Logger
}

// NewClient returns a client of the cluster that config leads to.
func NewClient(config *rest.Config, namespace string, log *slog.Logger) (*Client, error) {
	c := rest.CopyConfig(config)
	c.UserAgent = "causeway"
	if c.QPS == 0 {
		c.QPS, c.Burst = 50, 100
	}
	typed := rest.CopyConfig(c)
	typed.ContentType, typed.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	out := &Client{
		Core: core, Served: clientdiscovery.ToDiscoveryInterfaceWithContext(core.Discovery()),
		Namespace: namespace, Log: log,
	}
	if out.types, err = typesOf(); err != nil {
		return nil, err
	}
	if out.Metadata, err = metadata.NewForConfig(c); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if out.Objects, err = newRawClient(c); err != nil {
		return nil, err
	}
	unlimited := rest.CopyConfig(c)
	unlimited.QPS = -1
	if out.Statuses, err = newRawClient(unlimited); err != nil {
		return nil, err
	}
	gv := v1alpha1.GroupVersion()
	for _, typed := range []*rest.Config{c, unlimited} {
		typed.GroupVersion, typed.APIPath = &gv, "/apis"
		typed.NegotiatedSerializer = serializer.NewCodecFactory(out.types).WithoutConversion()
	}
	if out.Groups, err = rest.RESTClientFor(c); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if out.Shifts, err = rest.RESTClientFor(unlimited); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return out, nil
}

// Backoff is how a failed list or watch is tried again. The upper bound is
// what a control plane may lag behind an API server that is back.
func Backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 1000, Cap: 5 * time.Second}
}

// EventNoteMost is how many bytes the note of an Event has at most.
const EventNoteMost = 1024

// eventComponent is who tells, in Events.
const eventComponent = "causeway"

// NewRecorder returns a recorder of Events, which client-go aggregates into
// series, and what ends it.
func (c *Client) NewRecorder(ctx context.Context) (events.EventRecorder, func(), error) {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: c.Core.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("kubernetes: events: %w", err)
	}
	return broadcaster.NewRecorder(c.types, eventComponent), broadcaster.Shutdown, nil
}

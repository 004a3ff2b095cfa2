package main

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/observe"
)

func TestPrintProgrammed(t *testing.T) {
	var out bytes.Buffer
	tab := phrase.NewTable(&out)
	printProgrammed(tab, &observe.View{
		Replicas: []observe.ReplicaView{{Name: "a", State: "reporting"}, {Name: "b", State: "silent"}},
		Objects: []observe.ProgrammedRow{
			{Kind: "HTTPRoute", Namespace: "web", Name: "fine", Generation: 1, Status: "True", Reason: observe.ReasonProgrammed},
			{Kind: "Mesh", Name: "default", Generation: 2, Status: "Unknown", Reason: observe.ReasonNoProxies},
			{Kind: "HTTPRoute", Namespace: "web", Name: "bad", Generation: 3, Status: "False", Reason: observe.ReasonRejected, Message: "p refused CDS a: no\nand more"},
		},
	}, phrase.Brief)
	require.NoError(t, tab.Flush())
	require.Equal(t, "\nreplica b: silent\n\nHTTPRoute web/bad generation 3 is not in force (Rejected): p refused CDS a: no ...\n", out.String())
}

// observing returns a control plane that has compiled n objects.
func observing(tb testing.TB, n int) *serve {
	tb.Helper()
	s, err := newServe(&serveOptions{logLevel: "error", xdsListen: defaultXDSListen})
	require.NoError(tb, err)
	require.NoError(tb, s.newObserver("", nil))
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.engine.Run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	revision, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range n {
			key := discovery.Key{Namespace: "web", Name: fmt.Sprintf("partner-%04d", i)}
			spec := &v1alpha1.ExternalService{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Generation: 2}}
			spec.Spec.Hosts = []string{key.Name + ".example.com"}
			spec.Spec.Resolution = v1alpha1.ResolveDNS
			spec.Spec.Ports = []v1alpha1.ExternalPort{{Number: 80, Protocol: v1alpha1.ExternalHTTP}}
			catalog.Objects.Put(tx, &discovery.Object{
				Scope: "test", Kind: "ExternalService", Key: key, Generation: 2, Spec: spec, Hosts: spec.Spec.Hosts,
			})
		}
		return nil
	})
	require.NoError(tb, err)
	require.NoError(tb, s.engine.Await(tb.Context(), revision))
	return s
}

// What the engine has compiled is what is observed, and nobody is said to have
// it while no proxy is there.
func TestObserve(t *testing.T) {
	s := observing(t, 3)
	local := s.local()
	require.Len(t, local.Objects, 3)
	for _, o := range local.Objects {
		require.EqualValues(t, 2, o.Generation)
		require.Positive(t, o.Index)
		require.LessOrEqual(t, o.Index, local.Index)
		require.False(t, o.Held)
	}
	v := s.observer.View()
	require.Len(t, v.Objects, 3)
	require.Equal(t, observe.ReasonNoProxies, v.Objects[0].Reason)
}

// BenchmarkObserve is one look at 5,000 objects.
func BenchmarkObserve(b *testing.B) {
	s := observing(b, 5000)
	b.ReportAllocs()
	for b.Loop() {
		s.local()
	}
}

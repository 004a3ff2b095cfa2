package ec2

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// limit writes a Mesh that lists regions and accounts.
func (w *world) limit(regions, accounts []string) {
	w.t.Helper()
	w.put(func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, &discovery.Object{
			Scope: "test", Kind: "Mesh", Key: discovery.Key{Name: v1alpha1.MeshName},
			Spec: &v1alpha1.Mesh{Spec: v1alpha1.MeshSpec{EC2: &v1alpha1.MeshEC2{Regions: regions, Accounts: accounts}}},
		})
	})
}

// Instances of a region that the Mesh does not list are not read, and are once it does.
func TestMeshLimitsWhatIsRead(t *testing.T) {
	m := mototest.Start(t, mototest.Options{})
	setenv(t, m)
	w := newWorld(t, m)
	want := instanceIDs(m.CreateASG(t, mototest.ASGOptions{Name: "limited", Size: 2}))
	w.limit([]string{"eu-central-1"}, nil)
	w.asgGroup("limited", "limited")
	w.run()
	refused := func() error {
		if w.status("limited").Error == "" {
			return errors.New("it has no error")
		}
		return nil
	}
	w.await("the group to be refused", refused)
	require.Contains(t, w.status("limited").Error, "the Mesh does not list")
	require.Nil(t, w.endpoints("limited"))
	require.Empty(t, w.account().Name, "nobody asks EC2")

	w.limit([]string{"eu-central-1", m.Region()}, nil)
	w.awaitIDs("limited", want)
	require.Empty(t, w.status("limited").Error)

	w.limit([]string{"eu-central-1"}, nil)
	w.await("the group to be refused again", refused)
	w.awaitIDs("limited", want) // what is known stays: an edit of the Mesh is no outage
}

// A Mesh that nobody could read may limit what is read, so nothing is until it can be.
func TestUnreadMeshLiftsNoLimit(t *testing.T) {
	m := mototest.Start(t, mototest.Options{})
	setenv(t, m)
	w := newWorld(t, m)
	want := instanceIDs(m.CreateASG(t, mototest.ASGOptions{Name: "limited", Size: 2}))
	st := &discovery.SourceStatus{Name: discovery.KubernetesSource(discovery.KindMesh), Synced: true}
	st.Unread = []discovery.Unread{{Key: discovery.Key{Name: v1alpha1.MeshName}, Why: "spec.ec2: odd"}}
	w.put(func(tx *catalog.Tx) { catalog.Sources.Put(tx, st) })
	w.asgGroup("limited", "limited")
	w.run()
	w.await("the group to be refused", func() error {
		if w.status("limited").Error == "" {
			return errors.New("it has no error")
		}
		return nil
	})
	require.Contains(t, w.status("limited").Error, "the Mesh cannot be read")
	require.Empty(t, w.account().Name, "nobody asks EC2")

	w.put(func(tx *catalog.Tx) {
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: st.Name, Synced: true})
	})
	w.awaitIDs("limited", want)
}

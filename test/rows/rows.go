// Package rows reads the objects of a test from YAML, as rows of the catalog. It takes what an
// API server takes, with the same defaults, and nothing else.
package rows

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Scope is the source of all rows.
const Scope = "test"

// Set has the rows of a test.
type Set struct {
	objects.Rows
	Homes []*discovery.Home
	// Shifts are the statuses of TrafficShifts, by which traffic is divided.
	Shifts []*discovery.ShiftState
}

// Parse reads documents that "---" separates. An object that an API server would refuse, or that says nothing to the
// mesh, ends the test.
func Parse(tb testing.TB, text string) *Set {
	tb.Helper()
	out := &Set{}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		out.add(tb, doc)
	}
	return out
}

func (s *Set) add(tb testing.TB, doc string) {
	tb.Helper()
	var head metav1.PartialObjectMetadata
	require.NoError(tb, yaml.Unmarshal([]byte(doc), &head), doc)
	if head.Kind == discovery.KindEndpointSlice {
		// A test also has those that Causeway publishes, which nobody may write in a file.
		var slice discoveryv1.EndpointSlice
		require.NoError(tb, yaml.UnmarshalStrict([]byte(doc), &slice), doc)
		row := convert.EndpointSlice(&slice, Scope)
		require.NotNil(tb, row, "it says nothing to the mesh:\n%s", doc)
		s.Endpoints = append(s.Endpoints, row)
		return
	}
	text, err := yaml.YAMLToJSON([]byte(doc))
	require.NoError(tb, err, doc)
	for _, k := range objects.Kinds() {
		if !k.Has(head.APIVersion, head.Kind) {
			continue
		}
		before := s.count()
		require.Empty(tb, k.Decode(text, Scope, &s.Rows), doc)
		require.Equal(tb, before+1, s.count(), "it says nothing to the mesh:\n%s", doc)
		if head.Kind == discovery.KindTrafficShift {
			var shift v1alpha1.TrafficShift
			require.NoError(tb, yaml.UnmarshalStrict([]byte(doc), &shift), doc)
			s.Shifts = append(s.Shifts, &discovery.ShiftState{
				Scope: Scope, Key: discovery.Key{Namespace: shift.Namespace, Name: shift.Name}, Status: &shift.Status,
			})
		}
		return
	}
	require.Fail(tb, "no kind "+head.Kind+" in a test", doc)
}

func (s *Set) count() int { return len(s.Services) + len(s.Endpoints) + len(s.Objects) }

// Catalog returns a catalog with the rows.
func (s *Set) Catalog(tb testing.TB) *catalog.Catalog {
	tb.Helper()
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Services, s.Services)
		put(tx, catalog.Endpoints, s.Endpoints)
		put(tx, catalog.Objects, s.Objects)
		put(tx, catalog.Homes, s.Homes)
		put(tx, catalog.ShiftStates, s.Shifts)
		return nil
	})
	require.NoError(tb, err)
	return cat
}

func put[T any](tx *catalog.Tx, table catalog.Table[T], all []T) {
	for _, row := range all {
		table.Put(tx, row)
	}
}

// Shuffle changes every order that means nothing.
func (s *Set) Shuffle(r *rand.Rand) {
	shuffle(r, s.Services)
	shuffle(r, s.Endpoints)
	shuffle(r, s.Objects)
	shuffle(r, s.Homes)
	shuffle(r, s.Shifts)
	for _, service := range s.Services {
		shuffle(r, service.Ports)
	}
	for _, set := range s.Endpoints {
		shuffle(r, set.Endpoints)
		shuffle(r, set.Ports)
	}
}

func shuffle[T any](r *rand.Rand, all []T) {
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
}

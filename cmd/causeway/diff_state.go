package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// stateView is the state that a control plane serves, as the admin API tells
// it: the catalog's rows from which proxies' configuration is made.
type stateView struct {
	Services       []*discovery.Service       `json:"services"`
	InstanceGroups []*discovery.InstanceGroup `json:"instanceGroups"`
	Objects        []objectRow                `json:"objects"`
	Endpoints      []*discovery.EndpointSet   `json:"endpoints"`
	Homes          []*discovery.Home          `json:"homes"`
	ShiftStates    []*discovery.ShiftState    `json:"shiftStates"`
	Sources        []*discovery.SourceStatus  `json:"sources"`
}

// objectRow is a row whose spec is decoded by its kind.
type objectRow struct {
	discovery.Object
	// KeyFits is true for a Secret whose key fits its chain: the key itself is not told.
	KeyFits bool `json:"keyFits,omitempty"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *objectRow) UnmarshalJSON(data []byte) error {
	var kind struct {
		Kind    string
		KeyFits bool `json:"keyFits"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return fmt.Errorf("an object of the state: %w", err)
	}
	var row discovery.Object
	if k, ok := objects.Named(kind.Kind); ok && k.New != nil {
		row.Spec = k.New()
	}
	if row.Spec == nil {
		return fmt.Errorf("an object of the state: this version of causeway does not know the kind %q: use the version of the control plane", kind.Kind)
	}
	if err := json.Unmarshal(data, &row); err != nil {
		return fmt.Errorf("an object of the state: %s: %w", kind.Kind, err)
	}
	o.Object, o.KeyFits = row, kind.KeyFits
	if s, ok := row.Spec.(*corev1.Secret); ok && o.KeyFits {
		return standIn(s)
	}
	return nil
}

func viewState(r catalog.Reader) *stateView {
	v := &stateView{
		Services:       slices.Collect(catalog.Services.All(r)),
		InstanceGroups: slices.Collect(catalog.InstanceGroups.All(r)),
		Endpoints:      slices.Collect(catalog.Endpoints.All(r)),
		Homes:          slices.Collect(catalog.Homes.All(r)),
		ShiftStates:    slices.Collect(catalog.ShiftStates.All(r)),
		Sources:        slices.Collect(catalog.Sources.All(r)),
	}
	for o := range catalog.Objects.All(r) {
		v.Objects = append(v.Objects, withheld(o))
	}
	return v
}

// catalog returns a catalog with the state's rows.
func (v *stateView) catalog() (*catalog.Catalog, error) {
	out := catalog.New()
	_, err := out.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Sources, v.Sources)
		put(tx, catalog.Homes, v.Homes)
		put(tx, catalog.ShiftStates, v.ShiftStates)
		put(tx, catalog.Services, v.Services)
		put(tx, catalog.InstanceGroups, v.InstanceGroups)
		for i := range v.Objects {
			catalog.Objects.Put(tx, &v.Objects[i].Object)
		}
		put(tx, catalog.Endpoints, v.Endpoints)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the control plane's state: %w", err)
	}
	return out, nil
}

func put[T any](tx *catalog.Tx, t catalog.Table[T], rows []T) {
	for _, row := range rows {
		t.Put(tx, row)
	}
}

// liveState asks a control plane for its state.
func liveState(cmd *cobra.Command, admin *adminFlag) (*catalog.Catalog, error) {
	var v stateView
	if err := admin.do(cmd.Context(), http.MethodGet, "/v1/state", url.Values{}, &v); err != nil {
		return nil, err
	}
	return v.catalog()
}

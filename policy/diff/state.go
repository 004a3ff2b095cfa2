package diff

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// State is the state that a control plane serves, as the admin API tells
// it: the catalog's rows from which proxies' configuration is made. No private key is in it.
type State struct {
	Services    []*discovery.Service      `json:"services"`
	Objects     []ObjectRow               `json:"objects"`
	Endpoints   []*discovery.EndpointSet  `json:"endpoints"`
	Homes       []*discovery.Home         `json:"homes"`
	ShiftStates []*discovery.ShiftState   `json:"shiftStates"`
	Sources     []*discovery.SourceStatus `json:"sources"`
	// Freeze is the freeze of configuration, nil for none. The rows are those from before it.
	Freeze *discovery.Freeze `json:"freeze,omitempty"`
	// Groups are the InstanceGroups of an older control plane, apart from Objects.
	// Nobody reads them.
	Groups json.RawMessage `json:"instanceGroups,omitempty"`
	// Certificates are those that Gateways have if a Secret fails.
	Certificates []LastGood `json:"lastGoodCertificates,omitempty"`
}

// LastGood is a certificate of a Gateway that was good last, without its key.
type LastGood struct {
	Gateway discovery.Key `json:"gateway"`
	Name    string        `json:"name"`
	Chain   []byte        `json:"chain"`
}

// ObjectRow is an object whose spec is decoded by its kind.
type ObjectRow struct {
	discovery.Object
	// KeyFits is true for a Secret whose key fits its chain: the key itself is not told.
	KeyFits bool `json:"keyFits,omitempty"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *ObjectRow) UnmarshalJSON(data []byte) error {
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

// NewState returns the state of the rows from which proxies are configured,
// without secrets.
func NewState(r catalog.Reader, freeze *discovery.Freeze, good resolve.LastGood) *State {
	v := &State{
		Services:    slices.Collect(catalog.Services.All(r)),
		Endpoints:   slices.Collect(catalog.Endpoints.All(r)),
		Homes:       slices.Collect(catalog.Homes.All(r)),
		ShiftStates: slices.Collect(catalog.ShiftStates.All(r)),
		Sources:     slices.Collect(catalog.Sources.All(r)),
		Freeze:      freeze,
	}
	for gateway, certificates := range good {
		for name := range certificates {
			v.Certificates = append(v.Certificates, LastGood{gateway, name, certificates[name].Chain})
		}
	}
	slices.SortFunc(v.Certificates, func(a, b LastGood) int {
		return cmp.Or(strings.Compare(a.Gateway.String(), b.Gateway.String()), strings.Compare(a.Name, b.Name))
	})
	for o := range catalog.Objects.All(r) {
		v.Objects = append(v.Objects, withheld(o))
	}
	return v
}

// keyWithheld stands in for a private key, which is not told.
const keyWithheld = "withheld"

// LastGood returns the certificates that Gateways have if a Secret fails.
func (v *State) LastGood() resolve.LastGood {
	out := make(resolve.LastGood)
	for _, c := range v.Certificates {
		if out[c.Gateway] == nil {
			out[c.Gateway] = make(policy.Certificates)
		}
		out[c.Gateway][c.Name] = policy.Certificate{Name: c.Name, Chain: c.Chain, Key: []byte(keyWithheld)}
	}
	return out
}

// Catalog returns a catalog with the state's rows.
func (v *State) Catalog() (*catalog.Catalog, error) {
	if len(v.Groups) > 0 {
		return nil, errors.New("the state is of an older version of the control plane: use the causeway of that version")
	}
	out := catalog.New()
	_, err := out.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Sources, v.Sources)
		put(tx, catalog.Homes, v.Homes)
		put(tx, catalog.ShiftStates, v.ShiftStates)
		put(tx, catalog.Services, v.Services)
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

package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Proxies are the Envoys that are connected to the control plane that answers.
type Proxies struct {
	Time    time.Time  `json:"time"`
	Proxies []ProxyRow `json:"proxies"`
}

// ProxyRow is a proxy in a list.
type ProxyRow struct {
	ID      string `json:"id"`
	Service string `json:"service"`
	Zone    string `json:"zone,omitempty"`
	Node    string `json:"node,omitempty"`
	Envoy   string `json:"envoy"`
	// State is "in sync", or what it lacks; Well says whether nobody needs to look.
	State     string    `json:"state"`
	Well      bool      `json:"well"`
	Connected time.Time `json:"connected"`
	// Refuses is Envoy's own text, "" where it refuses nothing.
	Refuses string `json:"refuses,omitempty"`
}

// Proxy is one proxy.
type Proxy struct {
	Time time.Time `json:"time"`
	ProxyRow

	Status server.ProxyStatus `json:"status"`
	// Member is its agent, nil for an Envoy without one.
	Member *members.Member `json:"member,omitempty"`
	// Refusals are what it refuses, in Envoy's words, with the objects that caused it.
	Refusals  []Refusal  `json:"refusals,omitempty"`
	Resources []Resource `json:"resources"`
	// Content of the resource that was asked for, as YAML, without secrets.
	Content string `json:"content,omitempty"`
}

// Refusal is a resource that a proxy refused.
type Refusal struct {
	Type     string    `json:"type"`
	Resource string    `json:"resource"`
	Error    string    `json:"error"`
	Since    time.Time `json:"since,omitzero"`
	// Objects that caused it, as "Kind namespace/name".
	Objects []string `json:"objects,omitempty"`
	// Held is true where the last good configuration is in force instead.
	Held bool `json:"held"`
}

// Resource of Envoy that a proxy has.
type Resource struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Bytes   int    `json:"bytes"`
	// Objects that it comes from, as "Kind namespace/name".
	Objects []string `json:"objects,omitempty"`
}

func proxyRow(p *server.ProxyStatus) ProxyRow {
	row := ProxyRow{
		ID: p.ID, Service: p.Service, Zone: p.Zone, Node: p.NodeName, Envoy: p.Version, State: status.ProxyState(p), Connected: p.Connected.UTC(),
	}
	row.Well = row.State == "in sync"
	for _, t := range p.Types {
		if len(t.Rejected) > 0 {
			row.Refuses = fmt.Sprintf("%s %s: %s", t.Type, strings.Join(t.Rejected, ", "), t.Error)
		}
	}
	return row
}

// ProxiesOf returns the proxies, those that somebody should look at first.
func ProxiesOf(proxies []server.ProxyStatus, now time.Time) *Proxies {
	v := &Proxies{Time: now.UTC(), Proxies: make([]ProxyRow, 0, len(proxies))}
	for i := range proxies {
		v.Proxies = append(v.Proxies, proxyRow(&proxies[i]))
	}
	slices.SortStableFunc(v.Proxies, func(a, b ProxyRow) int {
		switch {
		case a.Well == b.Well:
			return 0
		case b.Well:
			return -1
		}
		return 1
	})
	return v
}

// ProxyOf returns one proxy, with the resources that it has.
func ProxyOf(p *server.ProxyStatus, agents []members.Member, rejections []snapshot.Rejection, infos []snapshot.Info, now time.Time) *Proxy {
	v := &Proxy{Time: now.UTC(), ProxyRow: proxyRow(p), Status: *p, Resources: make([]Resource, 0, len(infos))}
	for i := range agents {
		if agents[i].Node == p.ID {
			v.Member = &agents[i]
		}
	}
	for _, t := range p.Types {
		for _, name := range t.Rejected {
			r := Refusal{Type: t.Type, Resource: name, Error: t.Error}
			for i := range rejections {
				if x := &rejections[i]; x.Type.String() == t.Type && x.Name == name {
					r.Since, r.Objects, r.Held = x.Since, objectsOf(x.Provenance), x.Pinned
				}
			}
			v.Refusals = append(v.Refusals, r)
		}
	}
	for i := range infos {
		r := &infos[i]
		v.Resources = append(v.Resources, Resource{r.Type.String(), r.Name, r.Version, r.Size, objectsOf(r.Provenance)})
	}
	return v
}

func objectsOf(refs []discovery.ObjectRef) []string {
	var out []string
	for _, ref := range refs {
		if name := (discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}).String(); !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// leftOut stands in place of what is a secret.
const leftOut = "(left out)"

// secretFields are fields of Envoy's API that can have one, as their JSON names are. Private keys come as
// resources of their own (SDS) and are never shown.
var secretFields = []string{
	"private_key", "private_key_provider", "password", "session_ticket_keys", "hmac_secret", "token_secret", "inline_bytes", "pkcs12",
}

// secretHeaders are headers whose value is one.
var secretHeaders = []string{"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-amz-security-token"}

// ContentOf returns a resource as YAML, without secrets.
func ContentOf(t resource.Type, body []byte) (string, error) {
	if t == resource.Secret {
		return "", NotFound("secrets are not shown")
	}
	message, err := (&anypb.Any{TypeUrl: t.URL(), Value: body}).UnmarshalNew()
	if err != nil {
		return "", fmt.Errorf("%s: %w", t, err)
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return "", fmt.Errorf("%s: %w", t, err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return "", fmt.Errorf("%s: %w", t, err)
	}
	out, err := yaml.Marshal(withoutSecrets(tree))
	if err != nil {
		return "", fmt.Errorf("%s: %w", t, err)
	}
	return string(out), nil
}

func withoutSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if key, ok := v["key"].(string); ok && slices.Contains(secretHeaders, strings.ToLower(key)) && v["value"] != nil {
			v["value"] = leftOut
		}
		for name, value := range v {
			if slices.Contains(secretFields, name) {
				v[name] = leftOut
				continue
			}
			v[name] = withoutSecrets(value)
		}
	case []any:
		for i := range v {
			v[i] = withoutSecrets(v[i])
		}
	}
	return v
}

package status

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/remote"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/survey"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/installation"
	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Check judges an installation: what the cluster has of it, and what the replicas say. Its error is that the cluster does not answer.
func Check(ctx context.Context, cluster remote.Cluster, now time.Time) ([]installation.Result, error) {
	config, err := cluster.Config()
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the flag
	}
	facts, err := survey.Read(ctx, config, cluster.Namespace)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the cluster
	}
	if facts.Ready > 0 {
		if facts.Replicas, err = replicas(ctx, &client.Client{Cluster: cluster}); err != nil {
			facts.Unknown[installation.Sources] = err.Error()
		}
	}
	return installation.Judge(facts, now), nil
}

// replicas asks every replica how it is, for the judgement of an installation.
func replicas(ctx context.Context, c *client.Client) ([]installation.Replica, error) {
	meshes, err := client.All[Mesh](ctx, c, "/api/v1/status")
	if err != nil {
		return nil, err //nolint:wrapcheck // it says who does not answer
	}
	proxies, err := client.All[[]server.ProxyStatus](ctx, c, "/api/v1/proxystatuses")
	if err != nil {
		return nil, err //nolint:wrapcheck // it says who does not answer
	}
	var out []installation.Replica
	for i := range meshes {
		r := installation.Replica{Name: meshes[i].Replica}
		if meshes[i].Err != nil {
			r.Problem = meshes[i].Err.Error()
		} else {
			replicaOf(&r, &meshes[i].Value)
		}
		for j := range proxies {
			if proxies[j].Replica == r.Name {
				r.Envoys = envoysOf(proxies[j].Value)
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func replicaOf(r *installation.Replica, m *Mesh) {
	r.Version, r.Serving, r.WaitsFor = m.Version, m.Serving, m.WaitsFor
	for _, s := range m.Sources {
		if s.State == "ok" {
			s.Error = ""
		} else {
			s.Error = cmp.Or(s.Error, s.Note, "it is "+s.State)
		}
		r.Sources = append(r.Sources, installation.Source{Name: s.Name, Error: s.Error})
	}
	for _, t := range m.NotRight {
		if strings.HasPrefix(t.Object, "Mesh ") && t.Severity != policy.Warning.String() {
			r.Mesh = append(r.Mesh, t.Object+": "+t.Text)
		}
	}
}

func envoysOf(proxies []server.ProxyStatus) []installation.Envoy {
	var out []installation.Envoy
	for i := range proxies {
		e := installation.Envoy{ID: proxies[i].ID, Version: proxies[i].Version}
		for _, t := range proxies[i].Types {
			if len(t.Rejected) > 0 {
				e.Refused = refusedBriefly(t)
			}
		}
		out = append(out, e)
	}
	return out
}

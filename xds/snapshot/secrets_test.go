package snapshot

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

const certificate = "certificate/web/edge/web/tls"

func edgeSecret(text string) resource.Resource {
	r := res(resource.Secret, certificate, text)
	r.Visible = resource.Visibility{Role: resource.Gateway, Gateway: "web/edge", Authenticated: true}
	return r
}

func edgeView() View {
	return View{Role: resource.Gateway, Namespace: "web", Workload: "edge", Authenticated: true}
}

// newEdge is a proxy of the Gateway that asks for its certificate.
func newEdge(t *testing.T, s *Store, name string) *tester {
	t.Helper()
	c := newTester(t, s, name, edgeView())
	require.NoError(t, c.sub.Add(resource.Secret, []string{certificate}, nil))
	return c
}

func TestCertificatesReachEveryProxyAtOnce(t *testing.T) {
	s, outcomes := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "certificates/web/edge", edgeSecret("1"))
	a, b := newEdge(t, s, "a"), newEdge(t, s, "b")
	settleAll(t, now, a, b)
	require.Equal(t, version("1"), a.has[resource.Secret][certificate].Version)

	s.Freeze(firstFreeze)
	apply(s, "certificates/web/edge", edgeSecret("2"))
	for _, c := range []*tester{a, b} {
		batches := c.receive(now)
		require.Len(t, batches, 1, c.name)
		require.Equal(t, version("2"), batches[0].Frames[0].Version, "%s: neither a stage nor a freeze holds up a certificate", c.name)
		c.answer(t, batches[0])
	}
	require.Zero(t, s.Held())
	require.Empty(t, outcomes)
}

func TestRefusedCertificateIsReportedAndNotStored(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "certificates/web/edge", edgeSecret("1"))
	a := newEdge(t, s, "a")
	settleAll(t, now, a)
	a.bad = func(_ resource.Type, _, v string) bool { return v == version("2") }
	apply(s, "certificates/web/edge", edgeSecret("2"))
	settleAll(t, now, a)
	require.Equal(t, version("1"), a.has[resource.Secret][certificate].Version)
	rejections := s.Rejections()
	require.Len(t, rejections, 1)
	require.Equal(t, certificate, rejections[0].Name)
	require.False(t, rejections[0].Pinned)
	require.Empty(t, s.Pins())
	text, err := json.Marshal(rejections)
	require.NoError(t, err)
	require.Contains(t, string(text), `"SDS"`)

	apply(s, "certificates/web/edge", edgeSecret("3"))
	settleAll(t, now, a)
	require.Equal(t, version("3"), a.has[resource.Secret][certificate].Version)
	require.Empty(t, s.Rejections())
}

func TestCertificatesAreOnlyForTheirGateway(t *testing.T) {
	s, _ := stagedStore(t)
	apply(s, "certificates/web/edge", edgeSecret("1"))
	for name, v := range map[string]View{
		"sidecar":           {Role: resource.Sidecar, Namespace: "web", Workload: "edge", Authenticated: true},
		"another gateway":   {Role: resource.Gateway, Namespace: "web", Workload: "other", Authenticated: true},
		"another namespace": {Role: resource.Gateway, Namespace: "other", Workload: "edge", Authenticated: true},
		"unknown":           {Role: resource.Gateway, Namespace: "web", Workload: "edge"},
	} {
		c := newTester(t, s, name, v)
		require.NoError(t, c.sub.Add(resource.Secret, []string{certificate, "*"}, nil))
		settleAll(t, time.Unix(1000, 0), c)
		require.Empty(t, c.has[resource.Secret], name)
	}
}

// Envoy drops a certificate itself when its last listener goes.
func TestCertificateIsNotTakenAway(t *testing.T) {
	s, _ := stagedStore(t)
	now := time.Unix(1000, 0)
	apply(s, "certificates/web/edge", edgeSecret("1"))
	a := newEdge(t, s, "a")
	settleAll(t, now, a)
	apply(s, "certificates/web/edge")
	require.Empty(t, a.receive(now))
	apply(s, "certificates/web/edge", edgeSecret("1"))
	settleAll(t, now, a)
	require.Equal(t, version("1"), a.has[resource.Secret][certificate].Version)
}

package relay

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func node(version string) *corev3.Node {
	return &corev3.Node{Id: "sidecar~web~cron~i-1", UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: version}}
}

func response(t resource.Type, resources ...string) *discoveryv3.DeltaDiscoveryResponse {
	out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: t.URL()}
	for _, name := range resources {
		out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: "v-" + name})
	}
	return out
}

// filled is what an Envoy with a small mesh has acknowledged.
func filled() *kept {
	k := newKept()
	k.belongTo(node("1.40.0"))
	k.apply(response(resource.Cluster, "a", "b"), true)
	k.apply(response(resource.Listener, "http"), true)
	k.apply(response(resource.VirtualHost, "rc/a", "rc/b"), true)
	k.apply(response(resource.Secret, "certificate"), true)
	return k
}

func names(resources []*discoveryv3.Resource) []string {
	out := make([]string, 0, len(resources))
	for _, r := range resources {
		out = append(out, r.GetName())
	}
	return out
}

func TestKeptIsReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "last-good")
	k := filled()
	require.NoError(t, k.save(file, now))
	again, err := load(file)
	require.NoError(t, err)
	require.True(t, again.usable())
	require.Equal(t, now, again.savedAt())
	require.Equal(t, []string{"a", "b"}, names(again.get(resource.Cluster.URL(), all)))
	require.Empty(t, again.get(resource.Secret.URL(), all), "keys are not written to the disk")

	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, os.Remove(file))
	require.NoError(t, k.save(file, now))
	require.NoFileExists(t, file, "what has not changed is not written again")
}

// A file that a crash, a disk or another version has left is none, and stops nothing.
func TestKeptOfAnotherFormat(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "last-good")
	require.NoError(t, filled().save(file, now))
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	damaged := append([]byte(nil), good...)
	damaged[len(damaged)-3] ^= 1
	for what, text := range map[string][]byte{"damaged": damaged, "cut": good[:len(good)/2], "empty": nil, "of another format": []byte("causeway-relay-9....")} {
		require.NoError(t, os.WriteFile(file, text, 0o600))
		k, err := load(file)
		require.Error(t, err, what)
		require.False(t, k.usable(), what)
	}
	k, err := load(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.False(t, k.usable())
}

// A proxy with other listeners, and another version of Envoy, does not start with what was another's.
func TestKeptBelongsToOneProxy(t *testing.T) {
	t.Parallel()
	k := filled()
	k.belongTo(node("1.40.0"))
	require.True(t, k.usable())
	k.belongTo(node("1.41.0"))
	require.False(t, k.usable())
}

// Envoy lists its extensions in another order each time that it starts.
func TestKeptBelongsToOneProxyOfAnyOrder(t *testing.T) {
	t.Parallel()
	a, b := node("1.40.0"), node("1.40.0")
	one, two := &corev3.Extension{Category: "x", Name: "a"}, &corev3.Extension{Category: "y", Name: "a"}
	a.Extensions, b.Extensions = []*corev3.Extension{one, two}, []*corev3.Extension{two, one}
	require.Equal(t, ownerOf(a), ownerOf(b))
	require.Equal(t, two, b.GetExtensions()[0], "the node stays as it is")
}

// A flag that was wrong for a moment, and a file that is damaged, cost nothing: the file stays until there is a whole one of this proxy.
func TestKeptStaysUntilThereIsAnother(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "last-good")
	require.NoError(t, filled().save(file, now))
	k, err := load(file)
	require.NoError(t, err)
	require.True(t, k.belongTo(node("1.41.0")), "what is dropped is told")
	require.NoError(t, k.save(file, now))
	k.apply(response(resource.Cluster, "c"), true)
	require.NoError(t, k.save(file, now))
	again, err := load(file)
	require.NoError(t, err)
	require.False(t, again.belongTo(node("1.40.0")), "it is its own")
	require.True(t, again.usable())

	k.apply(response(resource.Listener, "http"), true)
	require.NoError(t, k.save(file, now))
	again, err = load(file)
	require.NoError(t, err)
	require.Equal(t, []string{"c"}, names(again.get(resource.Cluster.URL(), all)))
}

// An Envoy that is started again while no control plane answers does not wait as long as the first one.
func TestPatienceOfAnotherEnvoy(t *testing.T) {
	t.Parallel()
	r := &Relay{opts: Options{Wait: time.Minute}, kept: filled()}
	require.Equal(t, time.Minute, r.patience(true, now))
	require.False(t, r.waited(now))
	r.setAway(true)
	serves := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Listener.URL(), ResponseNonce: "1"}
	r.heard(serves)
	require.Equal(t, settled, r.patience(true, now))
	require.True(t, r.waited(now))
	r.setAway(false)
	r.heard(serves)
	require.Equal(t, time.Minute, r.patience(true, now.Add(time.Second)), "one has answered since")
}

// An Envoy that starts anew replaces what was kept, type by type: what has gone meanwhile is not kept for ever.
func TestKeptFollowsEnvoy(t *testing.T) {
	t.Parallel()
	k := filled()
	k.apply(response(resource.Cluster, "c"), true)
	k.apply(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: resource.VirtualHost.URL(), RemovedResources: []string{"rc/a"}}, false)
	k.forget(resource.Listener.URL(), []string{"http"})
	require.Equal(t, []string{"c"}, names(k.get(resource.Cluster.URL(), all)))
	require.Equal(t, []string{"rc/b"}, names(k.get(resource.VirtualHost.URL(), all)))
	require.Empty(t, k.get(resource.Listener.URL(), all))
}

// What Envoy has and the agent has not kept is asked for again, and what the agent has kept and Envoy has not is dropped.
func TestKeptAndEnvoyAgree(t *testing.T) {
	t.Parallel()
	k := filled()
	request := &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: resource.Cluster.URL(), InitialResourceVersions: map[string]string{"a": "v-a", "x": "v-x"},
	}
	require.True(t, k.lacks(request))
	require.Equal(t, map[string]string{"a": "v-a", "x": notKept}, request.GetInitialResourceVersions(), "what has gone meanwhile must be said to be gone")
	require.Equal(t, []string{"a"}, names(k.get(resource.Cluster.URL(), all)))
	delete(request.GetInitialResourceVersions(), "x")
	require.False(t, k.lacks(request))
}

func TestMemoryAnswers(t *testing.T) {
	t.Parallel()
	m := newMemory(filled())
	ask := func(t resource.Type, subscribe ...string) *discoveryv3.DeltaDiscoveryResponse {
		return m.answer(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResourceNamesSubscribe: subscribe})
	}
	clusters := ask(resource.Cluster)
	require.Equal(t, []string{"a", "b"}, names(clusters.GetResources()))
	require.Nil(t, ask(resource.Cluster), "an acknowledgement is no question")
	require.Equal(t, []string{"rc/a", "rc/b"}, names(ask(resource.VirtualHost).GetResources()), "virtual hosts are followed by no name")
	require.NotEqual(t, clusters.GetNonce(), ask(resource.Listener, all).GetNonce())
	require.Nil(t, ask(resource.Route, "unknown"), "Envoy waits for what is not kept")
	require.NotNil(t, ask(resource.Secret), "who asks for all of nothing is answered")

	m = newMemory(filled())
	require.Equal(t, []string{"rc/b"}, names(ask(resource.VirtualHost, "rc/b").GetResources()))
	require.Nil(t, ask(resource.VirtualHost, "rc/b"))
	m.answer(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.VirtualHost.URL(), ResourceNamesUnsubscribe: []string{"rc/b"}})
	require.Equal(t, []string{"rc/b"}, names(ask(resource.VirtualHost, "rc/b").GetResources()))
}

func FuzzUnmarshal(f *testing.F) {
	text, err := filled().marshal(now)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := unmarshal(text)
		if err != nil {
			require.Nil(t, k)
			return
		}
		_, err = k.marshal(now)
		require.NoError(t, err)
	})
}

// A disk that is full is said once, and shown until there is room again; what was kept before stays whole meanwhile.
func TestNotKept(t *testing.T) {
	t.Parallel()
	log := &harness.Log{}
	r := &Relay{opts: Options{Logger: slog.New(slog.NewTextHandler(log, nil))}}
	for range 2 {
		for range 3 {
			r.saved(syscall.ENOSPC)
			require.Equal(t, "no space left on device", r.State().Unsaved)
		}
		r.saved(nil)
		r.saved(nil)
		require.Empty(t, r.State().Unsaved)
	}
	require.Equal(t, 2, strings.Count(log.String(), "cannot keep"), log.String())
	require.Equal(t, 2, strings.Count(log.String(), "is kept again"))
}

// What was kept has no limit of age: a host that was off for a year serves with it until a control plane answers.
func TestKeptHasNoAge(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "last-good")
	long := now.AddDate(-1, 0, 0)
	require.NoError(t, filled().save(file, long))
	require.NoError(t, os.Chtimes(file, long, long))
	k, err := load(file)
	require.NoError(t, err)
	require.True(t, k.usable())
	require.Equal(t, long, k.savedAt(), "and says of when it is")
}

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
	"github.com/causeway-mesh/causeway/xds/agent"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
)

// resolver answers every name with one address, or nobody while it is away.
type resolver struct {
	away atomic.Bool
}

func startResolver(t *testing.T, at string) *resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(at, "53")) //nolint:noctx // closed below
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	r := &resolver{}
	go func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(packet)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			var m dnsmessage.Message
			if err != nil || m.Unpack(packet[:n]) != nil || r.away.Load() {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(at).As4()}}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return r
}

// lookup resolves a name inside, as its programs do.
func (p *podnet) lookup(ctx context.Context, name string) ([]string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return p.Dial(ctx, network, net.JoinHostPort(p.Node, "53"))
	}}
	return r.LookupHost(ctx, name+".")
}

// dialName connects from inside to a name.
func (p *podnet) dialName(ctx context.Context, network, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := p.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return p.Dial(ctx, network, net.JoinHostPort(found[0], port))
}

// status waits until the agent inside says what is wanted.
func (p *podnet) status(t *testing.T, what string, want func(*agent.Status) bool) {
	t.Helper()
	p.agent.Await(t, 30*time.Second, what, func() error {
		text, err := p.get("127.0.0.1:15020", "/status")
		var s agent.Status
		if err == nil {
			err = json.Unmarshal([]byte(text), &s)
		}
		if err == nil && !want(&s) {
			err = errors.New(text)
		}
		return err
	})
}

// A host reboots while its disk is full, no control plane answers and its certificate has ended meanwhile. It serves what it knew, by
// its programs' names, and says what it lacks. Its resolvers come and go too.
func TestHostReboots(t *testing.T) {
	beside(t, 0.5, 28*time.Second)
	p := newPodnet(t, 20)
	p.ownDisk(t, 512<<10)
	upstream := startResolver(t, p.Node)
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: netip.MustParseAddr(p.Node), Port: instancePort, ID: "users", Platform: "pods"})
	dir := t.TempDir()
	write := func(more string) {
		require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(fmt.Sprintf(agentMesh, instancePort, p.Node, "users")+more)))
	}
	write("")
	tls := p.dir + "-tls"
	require.NoError(t, os.MkdirAll(tls, 0o755)) //nolint:gosec // the agent's user reads it
	t.Cleanup(func() { _ = os.RemoveAll(tls) })
	ca := harness.NewAuthority(t, "causeway-ca")
	caFile := filepath.Join(tls, "ca.crt")
	require.NoError(t, os.WriteFile(caFile, ca.CertPEM, 0o644)) //nolint:gosec // as above
	serverCert, serverKey := ca.Issue(t, harness.CertificateOptions{Name: "causeway", Hosts: []string{"causeway.test"}}).Write(t, t.TempDir(), "server")
	var certificate, key string
	issue := func(lifetime time.Duration) {
		certificate, key = ca.Issue(t, harness.CertificateOptions{Name: "web", Lifetime: lifetime}).Write(t, tls, "host")
		require.NoError(t, os.Chown(key, 1337, 1337))
		require.NoError(t, os.Chown(certificate, 1337, 1337))
	}
	issue(0)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, harness.WriteFile(rules, []byte("clients: [{commonName: web, namespaces: [web]}]\n")))
	server := net.JoinHostPort(p.Node, strconv.Itoa(harness.FreePort(t)))
	plane := startReplica(t, "causeway", nil, "--config", dir, "--xds-listen", server,
		"--xds-tls-cert", serverCert, "--xds-tls-key", serverKey, "--xds-client-ca", caFile, "--xds-client-rules", rules)
	plane.waitReady()
	start := func() {
		p.start(t, server, "--captured-listen", fmt.Sprintf("127.0.0.1:%d=%s", naming.OutboundPort, discovery.VirtualIPv4),
			"--dns-listen", "127.0.0.1:15053", "--dns-upstream", p.Node, "--tls-ca", caFile, "--tls-cert", certificate, "--tls-key", key, "--tls-server-name", "causeway.test")
		p.capture(t, "--mode", "host", "--dns", "redirect", "--dns-servers", p.Node)
	}
	load := func() *harness.Load {
		return harness.StartLoad(t, harness.LoadOptions{URL: "http://php.web.svc.cluster.local/", Rate: 100, Workers: 8, NewConnections: true, Dial: p.dialName})
	}
	start()
	p.status(t, "its names", func(s *agent.Status) bool { return s.Membership.Joined && s.Membership.Services == 1 })
	before := load()
	before.WaitAnswers(t, 100, 30*time.Second)

	// DNS: what others know fails soon while they are away, the mesh's names do not.
	_, err := p.lookup(t.Context(), "example.org")
	require.NoError(t, err)
	upstream.away.Store(true)
	began := time.Now()
	_, err = p.lookup(t.Context(), "example.org")
	require.Error(t, err)
	require.Less(t, time.Since(began), 10*time.Second, "Go asks twice, as a host's programs do")
	before.WaitAnswers(t, 50, 30*time.Second)
	upstream.away.Store(false)
	_, err = p.lookup(t.Context(), "example.org")
	require.NoError(t, err, "it is back")

	// The disk is full: the agent goes on and says so; what was kept stays.
	var kept []byte
	p.onDisk(t, func() (err error) {
		if kept, err = os.ReadFile(filepath.Join(p.dir, "last-good")); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(p.dir, "names")); err != nil {
			return err
		}
		full := os.WriteFile(filepath.Join(p.dir, "log"), make([]byte, 1<<20), 0o600)
		if full == nil {
			return errors.New("the disk has room")
		}
		return nil
	})
	write(fmt.Sprintf(another, 1))
	p.status(t, "the disk to be full", func(s *agent.Status) bool {
		return s.Ready && s.Membership.Services == 2 && strings.Contains(s.Configuration.Unsaved, "no space left") && strings.Contains(s.Membership.Unsaved, "no space left")
	})
	p.onDisk(t, func() error {
		now, err := os.ReadFile(filepath.Join(p.dir, "last-good"))
		if err == nil && string(now) != string(kept) {
			err = errors.New("the file has changed")
		}
		return err
	})

	// No control plane, a reboot, and a certificate that has ended.
	plane.Kill()
	p.status(t, "no control plane", func(s *agent.Status) bool { return s.Ready && !s.Configuration.Connected })
	before.WaitAnswers(t, 50, 30*time.Second)
	before.Stop().RequireNoFailures(t)
	p.reboot(t)
	// The worst: Envoy's bootstrap is gone, and cannot be written.
	p.onDisk(t, func() error {
		if err := os.Remove(filepath.Join(p.dir, bootstrap.File)); err != nil {
			return err
		}
		if os.WriteFile(filepath.Join(p.dir, "more"), make([]byte, 1<<20), 0o600) == nil {
			return errors.New("the disk has room")
		}
		return nil
	})
	issue(-time.Hour)
	start()
	after := load()
	p.status(t, "what it knew", func(s *agent.Status) bool { return s.Ready && s.Configuration.LastGood && s.Membership.Services == 1 })
	plane.start()
	plane.waitReady()
	p.status(t, "why nobody answers", func(s *agent.Status) bool {
		return s.Ready && s.Configuration.LastGood && strings.Contains(s.Configuration.Error, "expired")
	})
	after.WaitAnswers(t, 50, 30*time.Second)
	issue(0)
	p.onDisk(t, func() error {
		return errors.Join(os.Remove(filepath.Join(p.dir, "log")), os.Remove(filepath.Join(p.dir, "more")))
	})
	p.status(t, "what is new, and is kept again", func(s *agent.Status) bool {
		return s.Ready && s.Configuration.Connected && !s.Configuration.LastGood && s.Membership.Services == 2 && s.Configuration.Unsaved == "" && s.Membership.Unsaved == ""
	})
	after.WaitAnswers(t, 50, 30*time.Second)
	after.Stop().RequireNoFailures(t)
}

// startMetadata starts AWS' own mock of the metadata service with a proxy in front that makes its faults.
func startMetadata(t *testing.T, args ...string) *harness.Proxy {
	t.Helper()
	address := harness.FreeAddress(t)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	harness.Start(t, harness.Command{
		Name: "metadata", Path: harness.Tool(t, "ec2-metadata-mock"), Dir: t.TempDir(), Env: []string{"HOME=" + t.TempDir()},
		Args: append(args, "--imdsv2", "--hostname", host, "--port", port),
	})
	harness.Eventually(t, 30*time.Second, "the metadata service listens", func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return harness.StartProxy(t, harness.ProxyOptions{Name: "metadata", Kind: harness.ProxyHTTP, Target: address})
}

// While EC2's metadata is away a first start says why it does not join; a host that runs, or that has been one, serves on and says it.
func TestHostWithoutMetadata(t *testing.T) {
	beside(t, 0.3, 25*time.Second)
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: address, Port: instancePort, ID: "old", Platform: "pods"})
	dir := t.TempDir()
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), fmt.Appendf(nil, agentMesh, instancePort, address, "old")))
	plane := startReplica(t, "causeway", nil, "--config", dir)
	plane.waitReady()
	metadata := startMetadata(t, "events", "--code", "system-reboot", "--not-before", "2046-11-30T20:00:00Z")
	metadata.Cut()
	h := startHost(t, plane.xds, "--id=", "--ec2", "--imds-endpoint", metadata.URL())
	<-h.Exited()
	text, err := os.ReadFile(h.LogFile())
	require.NoError(t, err)
	require.Contains(t, string(text), "--id: it is not known which instance this is: the instance metadata service at "+metadata.URL())

	metadata.Restore(t)
	metadata.Delay(200 * time.Millisecond)
	h.start()
	ec2 := func(want func(*agent.Status) bool) func(*agent.Status) bool {
		return func(s *agent.Status) bool { return s.Ready && s.EC2 != nil && want(s) }
	}
	h.await("it joins with a slow service", ec2(func(s *agent.Status) bool { return s.EC2.Reachable && s.Membership.Joined }), "old")
	metadata.Restore(t)
	load := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + h.http + "/", Host: "php.web", Rate: 50, Workers: 8})
	metadata.Cut()
	h.await("metadata is away", ec2(func(s *agent.Status) bool { return !s.EC2.Reachable && strings.Contains(s.EC2.Error, metadata.URL()) }), "old")
	metadata.Restore(t)
	h.await("metadata is back", ec2(func(s *agent.Status) bool { return s.EC2.Reachable && s.EC2.Error == "" }), "old")
	load.Stop().RequireNoFailures(t)
	metadata.Cut()
	h.Stop()
	h.start()
	h.await("a start that knows who it is", ec2(func(s *agent.Status) bool { return s.Membership.Joined }), "old")
}

// A host that Spot interrupts and one that its auto scaling group takes out are gone while callers call: no request
// fails, and Auto Scaling is told that its one may go.
func TestHostsGo(t *testing.T) {
	beside(t, 0.8, 40*time.Second)
	moto := mototest.Start(t, mototest.Options{})
	instances := moto.CreateASG(t, mototest.ASGOptions{Name: "php", Size: 3})
	servers := make(map[string]*harness.Workload)
	for _, i := range instances {
		servers[i.ID] = workload(t, "instances", i.ID, i.Zone, i.Address, instancePort)
	}
	dir := t.TempDir()
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), fmt.Appendf(nil, hostsMesh, moto.Region(), instancePort)))
	plane := startReplica(t, "causeway", moto.Env(), "--config", dir, "--ec2-interval", "1s")
	plane.waitReady()
	interrupted, taken, stays := instances[0].ID, instances[1].ID, instances[2].ID
	plane.waitEndpoints("web/php", map[string]string{interrupted: "HEALTHY", taken: "HEALTHY", stays: "HEALTHY"})
	completed := make(chan string, 10)
	scaling := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err == nil {
			completed <- strings.Join([]string{r.Form.Get("Action"), r.Form.Get("AutoScalingGroupName"), r.Form.Get("LifecycleHookName"), r.Form.Get("InstanceId"), r.Form.Get("LifecycleActionResult")}, " ")
		}
		fmt.Fprint(w, `<CompleteLifecycleActionResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><CompleteLifecycleActionResult/></CompleteLifecycleActionResponse>`)
	}))
	t.Cleanup(scaling.Close)
	caller := startHost(t, plane.xds)
	caller.Await(t, 30*time.Second, "the caller's configuration", func() error {
		status, body, err := caller.get(caller.http, "/", "php.web")
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("%d: %s, %w", status, body, err)
		}
		return nil
	})
	get := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + caller.http + "/", Host: "php.web", Rate: 200, Workers: 32})
	post := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + caller.http + "/slow?ms=300", Host: "php.web", Method: http.MethodPost, Body: []byte("x"), Rate: 20, Workers: 32})
	member := func(id string, metadata []string, flags ...string) *host {
		return startHostWith(t, []string{"AWS_ENDPOINT_URL_AUTO_SCALING=" + scaling.URL}, plane.xds,
			append([]string{"--workload", "php", "--id", id, "--ec2", "--imds-endpoint", startMetadata(t, metadata...).URL()}, flags...)...)
	}
	spot := member(interrupted, []string{"spot", "--mock-delay-sec", "3"})
	group := member(taken, []string{"asglifecycle", "--asg-termination-delay-sec", "3"}, "--auto-scaling-group", "php", "--lifecycle-hook", "drain")
	plane.waitEndpoints("web/php", map[string]string{interrupted: "DRAINING", taken: "DRAINING", stays: "HEALTHY"})
	gone := func(h *host, id string) {
		h.Signal(syscall.SIGTERM)
		servers[id].Kill()
		moto.Terminate(t, id)
	}
	// It is the instance of which metadata speaks, which AWS' mock calls always the same.
	require.Equal(t, "CompleteLifecycleAction php drain i-1234567890abcdef0 CONTINUE", <-completed)
	gone(group, taken)
	spot.Await(t, 30*time.Second, "the Spot instance to have drained", func() error {
		_, body, err := spot.get(spot.listen, "/status", "")
		if err == nil && !strings.Contains(body, `"over":true`) {
			err = errors.New(body)
		}
		return err
	})
	gone(spot, interrupted)
	plane.waitEndpoints("web/php", map[string]string{stays: "HEALTHY"})
	get.WaitAnswers(t, 300, 30*time.Second)
	r := get.Stop()
	r.RequireNoFailures(t)
	for _, i := range instances {
		require.Positive(t, r.Backends[harness.BackendKey{Platform: "instances", Zone: i.Zone, ID: i.ID}], "%s has answered before it went", i.ID)
	}
	post.Stop().RequireNoFailures(t)
}

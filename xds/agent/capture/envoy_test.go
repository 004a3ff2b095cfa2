package capture_test

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
)

// envoyConfig is what the listeners for captured connections need. Of 10.96.0.20:80 and [fd00:10:96::20]:80
// the cluster users has the endpoints, of 10.96.0.21:80 the pod itself has, and all else goes where it was to go.
const envoyConfig = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
static_resources:
  listeners:
  - name: outbound
    address: {socket_address: {address: 127.0.0.1, port_value: %[1]d}}
    additional_addresses: [{address: {socket_address: {address: "::1", port_value: %[1]d}}}]
    listener_filters: [{name: original_dst, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]
    filter_chains:
    - filter_chain_match: {destination_port: 80, prefix_ranges: [{address_prefix: 10.96.0.20, prefix_len: 32}, {address_prefix: "fd00:10:96::20", prefix_len: 128}]}
      filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: users, cluster: users}}]
    - filter_chain_match: {destination_port: 80, prefix_ranges: [{address_prefix: 10.96.0.21, prefix_len: 32}]}
      filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: own, cluster: own}}]
    default_filter_chain:
      filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: other, cluster: other}}]
  - name: inbound
    address: {socket_address: {address: "::", port_value: %[2]d, ipv4_compat: true}}
    listener_filters: [{name: original_dst, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]
    filter_chains:
    - filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: inbound, cluster: application}}]
  clusters:
  - name: users
    load_assignment: {cluster_name: users, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 192.0.2.7, port_value: 8081}}}}]}]}
  - name: own
    load_assignment: {cluster_name: own, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 198.18.0.2, port_value: 8080}}}}]}]}
  - {name: other, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}
  - name: application
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    upstream_bind_config: {socket_options: [{description: SO_PRIORITY, level: 1, name: 12, int_value: %[3]d, state: STATE_PREBIND}]}
`

// The real Envoy, without any privilege, finds of each captured connection where it was to go, and sends it to the right upstream.
func TestEnvoyReadsTheOriginalDestination(t *testing.T) {
	t.Parallel()
	p := newPodWithout(t, "outbound", "inbound")
	p.outside.answer(t, "users", "tcp4", "192.0.2.7:8081")
	for _, program := range []string{"nsenter", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not there to start Envoy in a namespace: apt-get install util-linux", program)
		}
	}
	harness.Start(t, harness.Command{Name: "envoy", Path: "nsenter", Args: []string{
		"--net=" + p.inside.Path(),
		"setpriv", "--reuid", strconv.Itoa(envoyUser), "--regid", strconv.Itoa(envoyUser), "--clear-groups", "--pdeathsig", "KILL",
		harness.Tool(t, "envoy"), "--disable-hot-restart", "--concurrency", "1",
		"--config-yaml", fmt.Sprintf(envoyConfig, naming.OutboundPort, naming.InboundPort, naming.ApplicationPriority),
	}})
	stat := func(name string) (string, error) {
		c, err := p.sender(t, "root").dial("tcp", "127.0.0.1:15000")
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = fmt.Fprintf(c, "GET /stats?filter=^%s$ HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n", regexp.QuoteMeta(name))
		answer, err := io.ReadAll(c)
		if found := regexp.MustCompile(regexp.QuoteMeta(name) + `: (\d+)`).FindSubmatch(answer); found != nil {
			return string(found[1]), nil
		}
		return "", errors.Join(err, fmt.Errorf("no %s in %q", name, answer))
	}
	harness.Eventually(t, 20*time.Second, "Envoy to listen", func() error {
		active, err := stat("listener_manager.total_listeners_active")
		if err == nil && active != "2" {
			err = fmt.Errorf("%s listeners", active)
		}
		return err
	})
	p.captures(t, "{mode: pod, inbound-ports: 8080}", 0)
	p.check(t, `
		app tcp 10.96.0.20:80 = users
		app tcp [fd00:10:96::20]:80 = users
		app tcp 10.96.0.20:443 = world
		app tcp 198.51.100.9:3306 = world
		app tcp [2001:db8::7]:80 = world`)
	inbound := func(want string) {
		t.Helper()
		got, err := stat("tcp.inbound.downstream_cx_total")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	inbound("0")
	p.check(t, "app tcp 10.96.0.21:80 = app") // its own Service
	inbound("1")
	p.check(t, "app tcp 198.18.0.2:8080 = app") // its own address
	inbound("2")
	p.check(t, "outside tcp 198.18.0.2:8080 = app\noutside tcp [fd00:18::2]:8080 = app")
	inbound("4")
	p.check(t, "outside tcp 198.18.0.2:9090 = app")
	inbound("4")
}

package compile_test

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// proxyV1 and proxyV2 are headers of the PROXY protocol for a client at an address.
func proxyV1(client string) string { return proxyV1To(client, 80) }

// proxyV1To is proxyV1 for a client that has connected to a port.
func proxyV1To(client string, port int) string {
	return fmt.Sprintf("PROXY TCP4 %s 192.0.2.1 4711 %d\r\n", client, port)
}

func proxyV2(client string) string {
	out := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
	source, local := netip.MustParseAddr(client).As4(), [4]byte{192, 0, 2, 1}
	out = append(append(out, source[:]...), local[:]...)
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(out, 4711), 80))
}

// What a request claims about its way is believed as far as something in front has written it.
func TestEdgeBelievesWhatIsInFront(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	seen := b.record()
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	front := func(hops ...v1alpha1.Hop) v1alpha1.GatewaySettings { return v1alpha1.GatewaySettings{InFront: hops} }
	alb, cloudFront := v1alpha1.Hop{Kind: v1alpha1.HopALB}, v1alpha1.Hop{Kind: v1alpha1.HopCloudFront}
	nlb := v1alpha1.Hop{Kind: v1alpha1.HopNLB, ProxyProtocol: true}
	host := answers("*", only(php))
	e := startGateway(t, gateway(
		plain(80, front(), host), plain(81, front(alb), host), plain(82, front(cloudFront, alb), host), plain(83, front(nlb), host),
		plain(84, front(alb, nlb), host), plain(85, front(v1alpha1.Hop{Kind: v1alpha1.HopProxy}), host),
	), php)

	// All that clients try. For a peer on the loopback interface Envoy appends an address of the host.
	spoofed := strings.Join([]string{
		"X-Forwarded-For: 6.6.6.6, 203.0.113.7, 198.18.0.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test", "X-Forwarded-Port: 666",
		"X-Forwarded-Prefix: /evil", "Forwarded: for=6.6.6.6", "X-Real-Ip: 6.6.6.6", "X-Request-Id: mine", "Proxy: evil.test:666",
		"X-Envoy-Internal: true", "X-Envoy-External-Address: 6.6.6.6", "X-Envoy-Upstream-Rq-Timeout-Ms: 1", "X-Envoy-Retry-On: 5xx", "X-Envoy-Max-Retries: 9",
		"X-Envoy-Original-Path: /evil", "X-Envoy-Decorator-Operation: evil", "X-Envoy-Expected-Rq-Timeout-Ms: 1", "X-Envoy-Made-Up: 1",
	}, "\r\n")
	ask := func(port uint16, before string) http.Header {
		t.Helper()
		got := e.say(t, port, before+"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"+spoofed+"\r\n\r\n")
		require.Equal(t, "200", statusOf(got), got)
		return seen.one(t).Header
	}
	own := ask(80, "").Get("X-Forwarded-For")
	require.NotContains(t, own, ",")
	_, err := netip.ParseAddr(own)
	require.NoError(t, err)
	for _, tc := range []struct {
		port   uint16
		before string
		// forwarded is X-Forwarded-For and client what Envoy takes for the client's address.
		forwarded, client, proto, id string
	}{
		{80, "", own, "127.0.0.1", "http", ""},
		{81, "", "6.6.6.6, 203.0.113.7, 198.18.0.9," + own, "198.18.0.9", "https", "mine"},
		{82, "", "6.6.6.6, 203.0.113.7, 198.18.0.9," + own, "203.0.113.7", "https", "mine"},
		{83, proxyV1("203.0.113.50"), "203.0.113.50", "203.0.113.50", "http", ""},
		{83, proxyV2("203.0.113.51"), "203.0.113.51", "203.0.113.51", "http", ""},
		{83, proxyV1To("203.0.113.54", 443), "203.0.113.54", "203.0.113.54", "https", ""},
		{84, proxyV1("203.0.113.52"), "6.6.6.6, 203.0.113.7, 198.18.0.9,203.0.113.52", "198.18.0.9", "https", "mine"},
		{84, proxyV2("203.0.113.53"), "6.6.6.6, 203.0.113.7, 198.18.0.9,203.0.113.53", "198.18.0.9", "https", "mine"},
	} {
		t.Run(fmt.Sprint(tc.port), func(t *testing.T) {
			got := ask(tc.port, tc.before)
			require.Equal(t, []string{tc.forwarded}, got["X-Forwarded-For"])
			require.Equal(t, []string{tc.proto}, got["X-Forwarded-Proto"])
			if tc.id != "" {
				require.Equal(t, []string{tc.id}, got["X-Request-Id"])
			} else {
				require.Len(t, got["X-Request-Id"], 1)
				require.NotEqual(t, "mine", got.Get("X-Request-Id"))
			}
			for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded", "X-Real-Ip", "Proxy"} {
				require.Empty(t, got[name], name)
			}
			hasALB := tc.port == 81 || tc.port == 82 || tc.port == 84
			require.Equal(t, hasALB, got.Get("X-Forwarded-Port") == "666", "an ALB writes it")
			for name, value := range got {
				if strings.HasPrefix(name, "X-Envoy") {
					require.Contains(t, []string{"X-Envoy-External-Address", "X-Envoy-Expected-Rq-Timeout-Ms", "X-Envoy-Original-Path"}, name)
					require.NotContains(t, value, "1")
					require.NotContains(t, value, "/evil")
				}
			}
			require.Equal(t, []string{tc.client}, got["X-Envoy-External-Address"])
		})
	}
	// Of a proxy that is not AWS's nobody knows what it writes.
	got := ask(85, "")
	require.Equal(t, "evil.test", got.Get("X-Forwarded-Host"))
	require.Equal(t, "6.6.6.6", got.Get("X-Real-Ip"))
	require.Empty(t, got.Get("Proxy"))
	require.Empty(t, got.Get("X-Envoy-Made-Up"))

	// A connection without a header of the PROXY protocol is closed.
	require.Equal(t, "closed", statusOf(e.say(t, 83, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")))
	require.Empty(t, seen.take())
}

// Who goes round what stands in front is not listened to, whatever the PROXY protocol says.
func TestEdgeIsClosedToOthers(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "php")
	php := pods("php", policy.HTTP1, zone(callerZone, b))
	raw := greeting(t, "raw")
	from := func(kind v1alpha1.HopKind, proxy bool, ranges ...string) v1alpha1.GatewaySettings {
		return v1alpha1.GatewaySettings{InFront: []v1alpha1.Hop{{Kind: kind, ProxyProtocol: proxy, Addresses: ranges}}}
	}
	host := answers("*", only(php))
	tcp := func(number uint16, s v1alpha1.GatewaySettings) policy.GatewayPort {
		return policy.GatewayPort{Number: number, Protocol: policy.ListenTCP, Settings: policy.GatewaySettings{GatewaySettings: s}, Listeners: []policy.GatewayListener{{
			Name: "tcp", TCP: []policy.TCPRule{{Backends: []policy.Backend{to(raw)}}},
		}}}
	}
	e := startGateway(t, gateway(
		plain(80, from(v1alpha1.HopALB, false, "127.0.0.0/8"), host), plain(81, from(v1alpha1.HopALB, false, "203.0.113.0/24", "2001:db8::/32"), host),
		plain(82, from(v1alpha1.HopNLB, true, "127.0.0.1/32"), host), plain(83, from(v1alpha1.HopNLB, true, "203.0.113.0/24"), host),
		tcp(84, from(v1alpha1.HopNLB, false, "127.0.0.0/8")), tcp(85, from(v1alpha1.HopNLB, false, "203.0.113.0/24")),
	), php, raw)
	const get = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
	require.Equal(t, "200", statusOf(e.say(t, 80, get)))
	require.Equal(t, "closed", statusOf(e.say(t, 81, get)))
	require.Equal(t, "200", statusOf(e.say(t, 82, proxyV1("198.51.100.1")+get)), "it is the load balancer's address that counts, not its clients'")
	require.Equal(t, "closed", statusOf(e.say(t, 83, proxyV1("203.0.113.7")+get)), "nor what anybody claims")
	require.Equal(t, "closed", statusOf(e.say(t, 83, proxyV2("203.0.113.7")+get)))
	require.Equal(t, "raw\n", e.say(t, 84, ""))
	require.Empty(t, e.say(t, 85, ""))
}

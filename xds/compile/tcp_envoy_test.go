package compile_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// connected returns a TCP Service with rules of a TCPRoute or TLSRoute.
func connected(name string, rules ...policy.TCPRule) *policy.Service {
	m := pods(name, policy.TCP)
	m.Ports[0].TCP = &policy.TCPRoutes{Rules: rules}
	return m
}

// greeting returns a TCP Service that says its name and ends.
func greeting(t *testing.T, name string) *policy.Service {
	t.Helper()
	return pods(name, policy.TCP, zone(callerZone, startRaw(t, name, func(c net.Conn) { _, _ = io.WriteString(c, name+"\n") })))
}

// greetings connects n times and counts what is said; "" is a connection that is closed.
func greetings(t *testing.T, address string, n int) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for range n {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		text, _ := io.ReadAll(conn) // a reset is a connection that is closed
		require.NoError(t, conn.Close())
		out[strings.TrimSpace(string(text))]++
	}
	return out
}

func TestEnvoyRoutesConnections(t *testing.T) {
	t.Parallel()
	a, b := greeting(t, "a"), greeting(t, "b")
	none := part(to(b), 100)
	none.Share, none.Targets[0].Share = 0, 0
	split := connected("split", policy.TCPRule{Backends: []policy.Backend{part(to(a), 50), part(to(b), 25), part(invalid, 25), none}})
	split.Ports[0].ConsumerTCP = map[string]*policy.TCPRoutes{
		"shop":  {Rules: []policy.TCPRule{{Backends: []policy.Backend{to(b)}}}},
		"empty": {},
	}
	wrong := connected("wrong", policy.TCPRule{Backends: []policy.Backend{invalid}})
	nothing := connected("nothing", policy.TCPRule{})
	idle := connected("idle", policy.TCPRule{
		Backends: []policy.Backend{to(pods("quiet", policy.TCP))},
		Settings: settings(v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Idle: duration(300 * time.Millisecond)}}),
	})
	quiet := pods("quiet", policy.TCP, zone(callerZone, startRaw(t, "quiet", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })))
	at := make(map[string]string)
	var declared []string
	for _, name := range []string{"split", "wrong", "nothing", "idle"} {
		at[name] = harness.FreeAddress(t)
		declared = append(declared, "tcp/"+at[name]+"=web/"+name+":80")
	}
	w := world{services: []*policy.Service{a, b, split, wrong, nothing, idle, quiet}, declared: declared}
	w.start(t)
	requireShares(t, map[string]float64{"a": .5, "b": .25, "": .25}, greetings(t, at["split"], 600))
	require.Equal(t, map[string]int{"": 5}, greetings(t, at["wrong"], 5))
	require.Equal(t, map[string]int{"": 5}, greetings(t, at["nothing"], 5))
	begun := time.Now()
	require.Equal(t, map[string]int{"": 1}, greetings(t, at["idle"], 1))
	require.Less(t, time.Since(begun), 5*time.Second, "a connection that is idle is closed")

	for namespace, want := range map[string]string{"shop": "b", "empty": ""} {
		at := harness.FreeAddress(t)
		world{services: []*policy.Service{a, b, split}, declared: []string{"tcp/" + at + "=web/split:80"}, namespace: namespace}.start(t)
		require.Equal(t, map[string]int{want: 10}, greetings(t, at, 10), namespace)
	}
}

// TLS is passed through by the name that clients ask for.
func TestEnvoyRoutesTLS(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	secure := func(name string) *policy.Service {
		b := startTLS(t, name, ca.Issue(t, harness.CertificateOptions{Name: name, Hosts: []string{name + ".test"}}).TLS(t))
		return pods(name, policy.TCP, zone(callerZone, b))
	}
	exact, deep, wide := secure("exact"), secure("deep"), secure("wide")
	named := connected("named",
		policy.TCPRule{ServerNames: []string{"db.example.com", "other.example.com"}, Backends: []policy.Backend{to(exact)}},
		policy.TCPRule{ServerNames: []string{"*.b.example.com"}, Backends: []policy.Backend{to(deep)}},
		policy.TCPRule{ServerNames: []string{"*.example.com"}, Backends: []policy.Backend{to(wide)}},
		policy.TCPRule{ServerNames: []string{"wrong.example.org"}, Backends: []policy.Backend{invalid}},
	)
	at := harness.FreeAddress(t)
	world{services: []*policy.Service{exact, deep, wide, named}, declared: []string{"tcp/" + at + "=web/named:80"}}.start(t)
	handshake := func(name string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}).DialContext(ctx, "tcp", at) //nolint:gosec // whose certificate it is is the question
		if err != nil {
			return ""
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	for name, want := range map[string]string{
		"db.example.com": "exact.test", "DB.example.com": "exact.test", "other.example.com": "exact.test",
		"a.b.example.com": "deep.test", "x.a.b.example.com": "deep.test", "b.example.com": "wide.test", "any.example.com": "wide.test",
		"example.com": "", "wrong.example.org": "", "elsewhere.test": "",
	} {
		require.Equal(t, want, handshake(name), name)
	}
	require.Empty(t, unencrypted(t, at), "who does not speak TLS asks for no name")
}

// unencrypted says something that is no TLS and returns what comes back.
func unencrypted(t *testing.T, address string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	require.NoError(t, err)
	text, _ := io.ReadAll(conn) // a reset is a connection that is closed
	return string(text)
}

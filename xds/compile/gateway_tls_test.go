package compile_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// certified returns a certificate of a Gateway.
func certified(name string, c harness.Certificate) policy.Certificate {
	return policy.Certificate{
		Name: "web/" + name, Object: discovery.ObjectRef{Kind: "Secret", Key: discovery.Key{Namespace: "web", Name: name}},
		Chain: c.CertPEM, Key: c.KeyPEM,
	}
}

// secure is a listener for HTTPS.
func secure(name, hostname string, certificates []string, hosts ...policy.GatewayHost) policy.GatewayListener {
	return policy.GatewayListener{Name: name, Hostname: hostname, Terminates: true, IsHTTP: true, Certificates: certificates, Hosts: hosts}
}

// closed reports whether a handshake fails.
func (e *edge) handshake(t *testing.T, port uint16, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", e.at[port])
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}

func TestEdgeEndsTLS(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	issue := func(hosts ...string) harness.Certificate {
		return ca.Issue(t, harness.CertificateOptions{Name: hosts[0], Hosts: hosts})
	}
	b, wide := startBackend(t, "shop"), startBackend(t, "wide")
	shop, rest := pods("shop", policy.HTTP1, zone(callerZone, b)), pods("wide", policy.HTTP1, zone(callerZone, wide))
	seen := b.record()
	m := gateway(policy.GatewayPort{
		Number: 443, Protocol: policy.ListenTLS,
		Listeners: []policy.GatewayListener{
			secure("shop", "shop.example.com", []string{"web/other", "web/shop"},
				answers("shop.example.com", only(shop)), policy.GatewayHost{Domain: "*.example.com", Misdirected: true}, policy.GatewayHost{Domain: "broken.example.com", Misdirected: true}),
			secure("broken", "broken.example.com", []string{"web/broken"}, answers("broken.example.com", only(shop))),
			secure("wide", "*.example.com", []string{"web/wide"},
				answers("*.example.com", only(rest)), policy.GatewayHost{Domain: "shop.example.com", Misdirected: true}),
		},
	}, policy.GatewayPort{
		Number: 444, Protocol: policy.ListenTLS,
		Settings:  policy.GatewaySettings{GatewaySettings: v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{MinVersion: v1alpha1.TLS13}}},
		Listeners: []policy.GatewayListener{secure("any", "", []string{"web/shop"}, answers("*", only(shop)))},
	}, policy.GatewayPort{
		Number: 445, Protocol: policy.ListenTLS,
		Settings:  policy.GatewaySettings{GatewaySettings: v1alpha1.GatewaySettings{TLS: &v1alpha1.ClientTLS{CipherSuites: []string{"ECDHE-ECDSA-AES256-GCM-SHA384"}}}},
		Listeners: []policy.GatewayListener{secure("any", "", []string{"web/shop"}, answers("*", only(shop)))},
	}, policy.GatewayPort{
		Number: 446, Protocol: policy.ListenTLS,
		Listeners: []policy.GatewayListener{secure("none", "", []string{"web/broken"}, answers("*", only(shop)))},
	})
	m.Certificates = []policy.Certificate{
		certified("shop", issue("shop.example.com")), certified("other", issue("other.example.com")), certified("wide", issue("*.example.com")),
		{Name: "web/broken", Object: discovery.ObjectRef{Kind: "Secret"}, Failed: "it is missing"},
	}
	e := startGateway(t, m, shop, rest)
	trust := func(name string) *tls.Config { return &tls.Config{RootCAs: ca.Pool(), ServerName: name} }

	a := e.ask(t, 443, trust("shop.example.com"), "shop.example.com", "/")
	require.Equal(t, "shop", a.body)
	require.Equal(t, "HTTP/2.0", a.Proto, "by ALPN")
	require.Equal(t, []string{"https"}, seen.one(t).Header["X-Forwarded-Proto"])
	old := trust("shop.example.com")
	old.NextProtos = []string{"http/1.1"}
	a = e.ask(t, 443, old, "shop.example.com", "/")
	require.Equal(t, "HTTP/1.1", a.Proto)
	require.Equal(t, "wide", e.ask(t, 443, trust("a.example.com"), "a.example.com", "/").body)
	require.Equal(t, "wide", e.ask(t, 443, trust("a.example.com"), "A.example.com:8443", "/").body)

	// A connection that is reused for a name of another listener (RFC 9113, section 9.1.1).
	seen.take()
	a = e.ask(t, 443, trust("a.example.com"), "shop.example.com", "/")
	require.Equal(t, http.StatusMisdirectedRequest, a.StatusCode)
	require.Equal(t, http.StatusMisdirectedRequest, e.ask(t, 443, trust("shop.example.com"), "a.example.com", "/").StatusCode)
	require.Equal(t, http.StatusNotFound, e.ask(t, 443, trust("shop.example.com"), "elsewhere.test", "/").StatusCode)
	require.Empty(t, seen.take())

	// Names that no listener has, and those of one without a certificate.
	for _, name := range []string{"elsewhere.test", "example.com", "broken.example.com"} {
		config := trust(name)
		config.InsecureSkipVerify = true
		_, err := e.handshake(t, 443, config)
		require.Error(t, err, name)
	}
	require.Empty(t, unencrypted(t, e.at[443]))
	require.NotEmpty(t, e.Listener(t, 20*time.Second, "gateway/"+e.at[443]+"=web/edge:443"))
	_, err := e.handshake(t, 446, trust("shop.example.com"))
	require.ErrorContains(t, err, "refused", "a port that nothing can be served on is not open")

	// Old versions of TLS.
	for port, least := range map[uint16]uint16{443: tls.VersionTLS12, 444: tls.VersionTLS13, 445: tls.VersionTLS12} {
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			config := trust("shop.example.com")
			config.MinVersion, config.MaxVersion = version, version //nolint:gosec // what is refused is the question
			got, err := e.handshake(t, port, config)
			require.Equal(t, version >= least, err == nil, "port %d, version %x: %v", port, version, err)
			if port == 445 && version == tls.VersionTLS12 {
				require.Equal(t, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, got.CipherSuite)
			}
		}
	}
}

// A ticket of one proxy of a Gateway is used up by it, and makes no other one fail.
func TestEdgeResumesSessions(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	b := startBackend(t, "shop")
	shop := pods("shop", policy.HTTP1, zone(callerZone, b))
	m := gateway(policy.GatewayPort{
		Number: 443, Protocol: policy.ListenTLS, Listeners: []policy.GatewayListener{secure("any", "", []string{"web/shop"}, answers("*", only(shop)))},
	})
	m.Certificates = []policy.Certificate{certified("shop", ca.Issue(t, harness.CertificateOptions{Name: "shop", Hosts: []string{"shop.example.com"}}))}
	one, two := startGateway(t, m, shop), startGateway(t, m, shop)
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "shop.example.com", ClientSessionCache: tls.NewLRUClientSessionCache(1), NextProtos: []string{"http/1.1"}}
	resumed := func(e *edge) bool {
		a := e.ask(t, 443, config, "shop.example.com", "/")
		require.Equal(t, http.StatusOK, a.StatusCode)
		return a.TLS.DidResume
	}
	require.False(t, resumed(one))
	require.True(t, resumed(one))
	require.False(t, resumed(two), "a handshake from the start")
	require.True(t, resumed(two))
}

func TestEdgePassesConnectionsOn(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	inside := func(name string) *policy.Service {
		return pods(name, policy.TCP, zone(callerZone, startTLS(t, name, ca.Issue(t, harness.CertificateOptions{Name: name, Hosts: []string{name + ".inside"}}).TLS(t))))
	}
	exact, wide, one, two := inside("exact"), inside("wide"), greeting(t, "one"), greeting(t, "two")
	tcp := func(r ...policy.TCPRule) []policy.TCPRule { return r }
	m := gateway(policy.GatewayPort{
		Number: 443, Protocol: policy.ListenTLS, Listeners: []policy.GatewayListener{
			{Name: "ended", Hostname: "ended.example.com", Terminates: true, Certificates: []string{"web/ended"}, TCP: tcp(policy.TCPRule{Backends: []policy.Backend{part(to(one), 50), part(to(two), 50)}})},
			{Name: "narrow", Hostname: "*.narrow.example.com", TCP: tcp(policy.TCPRule{ServerNames: []string{"a.narrow.example.com"}, Backends: []policy.Backend{to(exact)}})},
			{Name: "passed", Hostname: "", TCP: tcp(
				policy.TCPRule{ServerNames: []string{"exact.example.com"}, Backends: []policy.Backend{to(exact)}},
				policy.TCPRule{ServerNames: []string{"*.example.com"}, Backends: []policy.Backend{to(wide)}},
			)},
		},
	}, policy.GatewayPort{
		Number: 3306, Protocol: policy.ListenTCP, Listeners: []policy.GatewayListener{{Name: "db", TCP: tcp(policy.TCPRule{Backends: []policy.Backend{part(to(one), 75), part(to(two), 25)}})}},
	}, policy.GatewayPort{
		Number: 3307, Protocol: policy.ListenTCP, Listeners: []policy.GatewayListener{{Name: "nothing"}},
	})
	m.Certificates = []policy.Certificate{certified("ended", ca.Issue(t, harness.CertificateOptions{Name: "ended", Hosts: []string{"ended.example.com"}}))}
	e := startGateway(t, m, exact, wide, one, two)
	for name, want := range map[string]string{
		"exact.example.com": "exact.inside", "any.example.com": "wide.inside", "a.narrow.example.com": "exact.inside", "ended.example.com": "ended.example.com",
		// A name that no route of its listener has does not fall to a less specific listener.
		"b.narrow.example.com": "", "elsewhere.test": "",
	} {
		got, err := e.handshake(t, 443, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // whose certificate it is is the question
		if want == "" {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, want, got.PeerCertificates[0].DNSNames[0], name)
	}
	requireShares(t, map[string]float64{"one\n": .75, "two\n": .25}, said(t, 400, func() (net.Conn, error) {
		return (&net.Dialer{}).DialContext(t.Context(), "tcp", e.at[3306])
	}))
	requireShares(t, map[string]float64{"one\n": .5, "two\n": .5}, said(t, 200, func() (net.Conn, error) {
		return (&tls.Dialer{Config: &tls.Config{RootCAs: ca.Pool(), ServerName: "ended.example.com"}}).DialContext(t.Context(), "tcp", e.at[443])
	}))
	require.Empty(t, e.say(t, 3307, ""))
}

// said connects n times and counts what is said.
func said(t *testing.T, n int, dial func() (net.Conn, error)) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for range n {
		conn, err := dial()
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		text, _ := io.ReadAll(conn) // a reset is a connection that is closed
		require.NoError(t, conn.Close())
		out[string(text)]++
	}
	return out
}

// Files on the proxy's host are taken up when their directory is.
func TestEdgeReadsCertificateFiles(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	dir := t.TempDir()
	chain, key := ca.Issue(t, harness.CertificateOptions{Name: "first", Hosts: []string{"shop.example.com"}}).Write(t, dir, "shop")
	b := startBackend(t, "shop")
	shop := pods("shop", policy.HTTP1, zone(callerZone, b))
	m := gateway(policy.GatewayPort{
		Number: 443, Protocol: policy.ListenTLS, Listeners: []policy.GatewayListener{secure("any", "", []string{"file/any"}, answers("*", only(shop)))},
	})
	m.Certificates = []policy.Certificate{{Name: "file/any", Object: discovery.ObjectRef{Kind: "Gateway", Key: edgeKey}, ChainFile: chain, KeyFile: key}}
	e := startGateway(t, m, shop)
	got, err := e.handshake(t, 443, &tls.Config{RootCAs: ca.Pool(), ServerName: "shop.example.com"})
	require.NoError(t, err)
	require.Equal(t, "first", got.PeerCertificates[0].Subject.CommonName)
}

// Clients prove who they are, and backends are told who it is; where anybody is let in, backends are told nothing that nobody
// has checked. What a client says of itself counts nowhere.
func TestEdgeChecksClients(t *testing.T) {
	t.Parallel()
	ca, clients, strangers := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "clients"), harness.NewAuthority(t, "strangers")
	b := startBackend(t, "shop")
	seen := b.record()
	shop := pods("shop", policy.HTTP1, zone(callerZone, b))
	port := func(number uint16, c *policy.ClientCertificates) policy.GatewayPort {
		l := secure("shop", "", []string{"web/shop"}, answers("*", only(shop)))
		l.Clients = c
		return policy.GatewayPort{Number: number, Protocol: policy.ListenTLS, Listeners: []policy.GatewayListener{l}}
	}
	cas := string(clients.CertPEM)
	m := gateway(port(443, &policy.ClientCertificates{CAs: cas}), port(444, &policy.ClientCertificates{CAs: cas, Optional: true}), port(445, nil))
	m.Certificates = []policy.Certificate{certified("shop", ca.Issue(t, harness.CertificateOptions{Hosts: []string{"shop.example.com"}}))}
	e := startGateway(t, m, shop)
	// with is a client that shows a certificate whoever the server asks for.
	with := func(c *harness.Certificate) *tls.Config {
		config := &tls.Config{RootCAs: ca.Pool(), ServerName: "shop.example.com"}
		if c != nil {
			pair := c.TLS(t)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return config
	}
	issue := func(a *harness.Authority, lifetime time.Duration) *harness.Certificate {
		c := a.Issue(t, harness.CertificateOptions{Name: "partner", Hosts: []string{"partner.example.com"}, URIs: []string{"spiffe://example.com/partner"}, Lifetime: lifetime})
		return &c
	}
	for name, c := range map[string]struct {
		certificate *harness.Certificate
		valid       bool
	}{
		"a partner":           {issue(clients, 0), true},
		"a stranger":          {issue(strangers, 0), false},
		"one that has ended":  {issue(clients, -time.Hour), false},
		"nobody":              {nil, false},
		"the server's own CA": {issue(ca, 0), false},
	} {
		forged := "X-Forwarded-Client-Cert: By=me;Subject=\"CN=admin\""
		for port, in := range map[uint16]bool{443: c.valid, 444: true, 445: true} {
			a, err := e.tryAsk(t, port, with(c.certificate), "shop.example.com", "/", forged)
			if !in {
				require.Error(t, err, "%s at %d", name, port)
				continue
			}
			require.NoError(t, err, "%s at %d", name, port)
			require.Equal(t, "shop", a.body)
			told := seen.one(t).Header["X-Forwarded-Client-Cert"]
			if port != 443 {
				require.Empty(t, told, "%s at %d", name, port)
				continue
			}
			require.Len(t, told, 1)
			require.Contains(t, told[0], `Subject="CN=partner";URI=spiffe://example.com/partner;DNS=partner.example.com`)
			require.NotContains(t, told[0], "admin")
		}
	}
	require.Empty(t, seen.take(), "who is refused reaches nobody")
}

package naming_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/naming"
)

func TestParseDeclaration(t *testing.T) {
	for _, tc := range []struct{ in, want, err string }{
		{in: "http/127.0.0.1:15001", want: "http/127.0.0.1:15001"},
		{in: "http/[::1]:15001", want: "http/[::1]:15001"},
		{in: "http/[::ffff:127.0.0.1]:80", want: "http/127.0.0.1:80"},
		{in: "tcp/127.8.0.1:3306=data/mysql:3306", want: "tcp/127.8.0.1:3306=data/mysql:3306"},
		{in: "tcp/127.0.0.1:03306=data/mysql:003306", want: "tcp/127.0.0.1:3306=data/mysql:3306"},
		{in: "captured/127.0.0.1:15001=240.0.0.0/4,10.96.1.0/12,10.96.0.0/12", want: "captured/127.0.0.1:15001=10.96.0.0/12,240.0.0.0/4"},
		{in: "captured/[::1]:15001=fd00::a/108", want: "captured/[::1]:15001=fd00::/108"},
		{in: "captured/127.0.0.1:15001", err: "write http/ADDRESS:PORT"},
		{in: "captured/127.0.0.1:15001=", err: "not a range of addresses"},
		{in: "captured/127.0.0.1:15001=10.96.0.1", err: "not a range of addresses such as 10.96.0.0/12"},
		{in: "captured/127.0.0.1:15001=::ffff:10.0.0.0/100", err: "write it as IPv4"},
		{in: "captured/0.0.0.0:15001=10.96.0.0/12", err: "not a loopback address"},
		{in: "inbound/0.0.0.0:15006=8080/http,3306/tcp,9090/grpc,7000", want: "inbound/0.0.0.0:15006=3306/tcp,7000,8080/http,9090/http"},
		{in: "inbound/[::]:15006=8080/h2c,8080/http2", want: "inbound/[::]:15006=8080/http"},
		{in: "inbound/0.0.0.0:15006", err: "write http/ADDRESS:PORT"},
		{in: "inbound/0.0.0.0:15006=", err: "not PORT or PORT/PROTOCOL"},
		{in: "inbound/0.0.0.0:15006=0", err: "not PORT or PORT/PROTOCOL"},
		{in: "inbound/0.0.0.0:15006=80/", err: "not PORT or PORT/PROTOCOL"},
		{in: "inbound/0.0.0.0:15006=80/udp", err: "not PORT or PORT/PROTOCOL"},
		{in: "inbound/0.0.0.0:15006=8080/http,8080/tcp", err: "port 8080 has two protocols"},
		{in: "inbound/0.0.0.0:15006=8080,8080/tcp", err: "port 8080 has two protocols"},
		{in: "inbound/0.0.0.0:15006=15006/http", err: "port 15006 is where Envoy itself listens"},
		{in: "inbound/0.0.0.0=8080", err: "not an address with a port"},
		{in: "inbound/0.0.0.0:15006=" + many(129), err: "more than 128 ports"},
		{in: "", err: "write http/ADDRESS:PORT"},
		{in: "udp/127.0.0.1:53", err: "write http/ADDRESS:PORT"},
		{in: "http/127.0.0.1:80=web/x:80", err: "write http/ADDRESS:PORT"},
		{in: "tcp/127.0.0.1:3306", err: "write http/ADDRESS:PORT"},
		{in: "http/localhost:80", err: "localhost"},
		{in: "http/0.0.0.0:80", err: "not a loopback address"},
		{in: "http/10.0.0.1:80", err: "not a loopback address"},
		{in: "http/[::1%lo]:80", err: "not a loopback address"},
		{in: "http/127.0.0.1:0", err: "not a loopback address with a port"},
		{in: "tcp/127.0.0.1:1=data/mysql", err: "not NAMESPACE/SERVICE:PORT"},
		{in: "tcp/127.0.0.1:1=mysql:3306", err: "not NAMESPACE/SERVICE:PORT"},
		{in: "tcp/127.0.0.1:1=a/b/c:3306", err: "not NAMESPACE/SERVICE:PORT"},
		{in: "tcp/127.0.0.1:1=data/mysql:0", err: "not NAMESPACE/SERVICE:PORT"},
		{in: "tcp/127.0.0.1:1=data/mysql:70000", err: "not NAMESPACE/SERVICE:PORT"},
		{in: "tcp/127.0.0.1:1=data/My Sql:3306", err: "not NAMESPACE/SERVICE:PORT"},
		{in: "tcp/127.0.0.1:1=data/" + strings.Repeat("x", 64) + ":1", err: "not NAMESPACE/SERVICE:PORT"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			d, err := naming.ParseDeclaration(tc.in)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, d.String())
		})
	}
}

// many returns so many ports.
func many(n int) string {
	ports := make([]string, n)
	for i := range ports {
		ports[i] = strconv.Itoa(1000 + i)
	}
	return strings.Join(ports, ",")
}

func FuzzParseDeclaration(f *testing.F) {
	f.Add("http/127.0.0.1:15001")
	f.Add("tcp/[::1]:3306=data/mysql:3306")
	f.Add("captured/[::1]:15001=fd00::/108,10.96.0.0/12")
	f.Add("inbound/[::]:15006=8080/http,3306/tcp,7000")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := naming.ParseDeclaration(text)
		if err != nil {
			return
		}
		require.True(t, d.Address.Addr().IsLoopback() || d.IsInbound() || d.IsGateway() || d.Internal)
		again, err := naming.ParseDeclaration(d.String())
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}

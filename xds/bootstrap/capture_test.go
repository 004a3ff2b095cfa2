package bootstrap

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCapture(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen []string
		want   Capture
	}{
		{nil, Capture{}},
		{[]string{"nonsense"}, Capture{}},
		{[]string{"127.0.0.1:15002=240.0.0.0/4"}, Capture{Host: true, IPv4: true}},
		{[]string{"127.0.0.1:15002=10.0.0.0/8,240.0.0.0/5"}, Capture{Host: true, IPv4: true}},
		{[]string{"127.0.0.1:15002=240.0.0.0/4", "[::1]:15002=fdca:5e0a:7a1e::/48"}, Capture{Host: true, IPv4: true, IPv6: true}},
		{[]string{"[::1]:15002=fdca:5e0a:7a1e::/48"}, Capture{Host: true, IPv6: true}},
		{[]string{"127.0.0.1:15002=0.0.0.0/0", "[::1]:15002=::/0"}, Capture{Pod: true}},
		{[]string{"127.0.0.1:15002=10.96.0.0/12"}, Capture{Pod: true}},
	} {
		require.Equal(t, c.want, (&Options{CapturedListen: c.listen}).Capture(), "%v", c.listen)
	}
}

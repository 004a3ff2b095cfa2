package page

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Beyond loopback the page is for people who are known, by a name that is known, and not in the clear.
func TestListen(t *testing.T) {
	t.Parallel()
	known := door{}
	for want, o := range map[string]Listen{
		"":                                   {},
		"nobody is known":                    {Listen: "127.0.0.1:0"},
		"give --ui-url":                      {Listen: ":8443", Door: known},
		"must not go in the clear":           {Listen: ":8443", Door: known, URL: "https://causeway.example.com"},
		"and an https --ui-url":              {Listen: ":8443", Door: known, URL: "http://causeway.example.com", Insecure: true},
		"is not the address of a server":     {Listen: ":8443", Door: known, URL: "causeway.example.com"},
		"it as https://causeway.example.com": {URL: "https://causeway.example.com/path"},
		"go together":                        {Listen: ":8443", Door: known, URL: "https://a", Cert: "c"},
		"no such file":                       {Listen: ":8443", Door: known, URL: "https://a", Cert: "none.crt", Key: "none.key"},
	} {
		o.Log = slog.New(slog.DiscardHandler)
		s, err := NewServer(&o)
		if want == "" {
			require.NoError(t, err)
			require.Nil(t, s)
			continue
		}
		require.ErrorContains(t, err, want)
	}
	for _, o := range []Listen{{Listen: "127.0.0.1:0", Door: known}, {Listen: ":8443", Door: known, URL: "https://causeway.example.com/", Insecure: true}} {
		o.Log = slog.New(slog.DiscardHandler)
		s, err := NewServer(&o)
		require.NoError(t, err)
		require.Equal(t, o.URL != "", s.page.opts.Secure)
		require.Equal(t, o.URL != "", s.page.opts.Host("causeway.example.com"))
		require.False(t, s.page.opts.Host("evil.example"))
	}
}

// Who has started the page for themselves comes in by the address that is printed, and nobody else of the host does.
func TestOwn(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	var out bytes.Buffer
	done := make(chan struct{})
	printed := make(chan struct{})
	go func() {
		defer close(done)
		_ = Own(ctx, l, &fake{text: "x"}, &somebody{name: "ada", may: all}, writer(func(b []byte) { out.Write(b); close(printed) }))
	}()
	defer func() { cancel(); <-done }()
	<-printed
	require.Contains(t, out.String(), "The page, for you (ada): http://127.0.0.1:")
	address := regexp.MustCompile(`http://\S+`).FindString(out.String())
	get := func(c *http.Client, address string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		require.NoError(t, err)
		resp, err := c.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	stranger := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base, _, _ := strings.Cut(address, "/open/")
	require.Equal(t, http.StatusSeeOther, get(stranger, base+"/"))
	require.Equal(t, http.StatusForbidden, get(stranger, base+"/open/x"))
	require.Equal(t, http.StatusUnauthorized, get(stranger, base+"/api/v1/overview"))
	owner := &http.Client{Jar: jar}
	require.Equal(t, http.StatusOK, get(owner, address))
	require.Equal(t, http.StatusOK, get(owner, base+"/api/v1/overview"))
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

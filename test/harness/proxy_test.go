package harness_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	w := goWorkload(t, "pod-1")
	p := harness.StartProxy(t, harness.ProxyOptions{
		Kind: harness.ProxyHTTP, Target: w.Address(),
		Rewrite: func(r *http.Request, _, answer []byte) []byte {
			if r.URL.Path == "/rewritten" {
				return []byte("something else")
			}
			return answer
		},
	})
	url := p.URL()
	status, body, err := get(t, url+"/x", 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Contains(t, body, `"path":"/x"`)

	_, body, err = get(t, url+"/rewritten", 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "something else", body)

	p.Fail(2, harness.Answer{Status: 429, Body: "slower"}, nil)
	for _, want := range []int{429, 429, 200} {
		status, _, err = get(t, url+"/x", 5*time.Second)
		require.NoError(t, err)
		require.Equal(t, want, status)
	}

	p.Delay(200 * time.Millisecond)
	began := time.Now()
	_, _, err = get(t, url+"/x", 5*time.Second)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
	p.Restore(t)

	p.Truncate(10)
	_, body, err = get(t, url+"/x", 5*time.Second)
	require.Error(t, err)
	require.Len(t, body, 10)
	p.Restore(t)

	p.Hang()
	_, _, err = get(t, url+"/x", 200*time.Millisecond)
	require.Error(t, err)
	p.Cut()
	_, _, err = get(t, url+"/x", 5*time.Second)
	require.ErrorContains(t, err, "refused")
	p.Restore(t)
	_, _, err = get(t, url+"/x", 5*time.Second)
	require.NoError(t, err)
	require.GreaterOrEqual(t, p.Calls()["GET /x"], 7)
}

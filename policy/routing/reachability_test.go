package routing

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
)

// request is what a match sees of a request.
type request struct {
	path, method   string
	headers, query map[string]string
}

func takes(m *policy.Match, r *request) bool {
	switch m.Path.Kind {
	case policy.PathExact:
		if r.path != m.Path.Value {
			return false
		}
	case policy.PathPrefix:
		if m.Path.Value != "/" && r.path != m.Path.Value && !strings.HasPrefix(r.path, m.Path.Value+"/") {
			return false
		}
	case policy.PathRegex:
		if !regexp.MustCompile("^(?:" + m.Path.Value + ")$").MatchString(r.path) {
			return false
		}
	}
	values := func(want []policy.ValueMatch, have map[string]string) bool {
		for _, v := range want {
			got, ok := have[v.Name]
			if !ok || !v.Regex && got != v.Value || v.Regex && !regexp.MustCompile("^(?:"+v.Value+")$").MatchString(got) {
				return false
			}
		}
		return true
	}
	return (m.Method == "" || m.Method == r.method) && values(m.Headers, r.headers) && values(m.Query, r.query)
}

func TestCoveredMatchesAreNeverReached(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	var requests []request
	for _, path := range []string{"/", "/a", "/ab", "/a/b", "/a/b/c", "/x1"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			for _, v := range []map[string]string{nil, {"a": "1"}, {"a": "2", "b": "1"}, {"a": "3", "b": "2"}, {"b": "x"}} {
				for _, q := range []map[string]string{nil, {"a": "1", "b": "1"}, {"a": "2", "b": "3"}} {
					requests = append(requests, request{path, method, v, q})
				}
			}
		}
	}
	c := covering{compiled: make(map[string]*regexp.Regexp)}
	covered := 0
	for range 20000 {
		a, b := randomMatch(rnd), randomMatch(rnd)
		if !c.covers(&a, &b) {
			continue
		}
		covered++
		for i := range requests {
			if takes(&b, &requests[i]) {
				require.True(t, takes(&a, &requests[i]), "%+v does not cover %+v: %+v", a, b, requests[i])
			}
		}
	}
	require.Greater(t, covered, 100, "the test compares nothing")
}

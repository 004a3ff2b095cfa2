package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var (
	loadBalancerSection = SectionDef{
		"loadBalancer", "loadBalancer", ClusterLayer, false,
		func(s *settings) bool { return s.LoadBalancer != nil },
		func(to, from *settings) {
			hash := edit(&to.LoadBalancer).Hash
			*to.LoadBalancer = *from.LoadBalancer
			to.LoadBalancer.Hash = hash
		},
	}
	hashSection = SectionDef{
		"loadBalancer.hash", "loadBalancer", RequestLayer, true,
		func(s *settings) bool { return s.LoadBalancer != nil && s.LoadBalancer.Hash != nil },
		func(to, from *settings) { edit(&to.LoadBalancer).Hash = from.LoadBalancer.Hash },
	}
	localitySection = SectionDef{
		"locality", "locality", ClusterLayer, false,
		func(s *settings) bool { return s.Locality != "" },
		func(to, from *settings) { to.Locality = from.Locality },
	}
)

func checkLoadBalancer(c *Checker, s *settings) {
	l := s.LoadBalancer
	if l == nil {
		return
	}
	c.oneOf("loadBalancer.algorithm", string(l.Algorithm), "", string(v1alpha1.RoundRobin), string(v1alpha1.LeastRequest),
		string(v1alpha1.Random), string(v1alpha1.RingHash), string(v1alpha1.Maglev))
	c.duration("loadBalancer.slowStart", l.SlowStart, time.Millisecond, 24*time.Hour, true)
	if l.SlowStart != nil && l.Algorithm != "" && l.Algorithm != v1alpha1.RoundRobin && l.Algorithm != v1alpha1.LeastRequest {
		c.bad("loadBalancer.slowStart", fmt.Sprintf("%s has none", l.Algorithm), "use RoundRobin or LeastRequest")
	}
	h := l.Hash
	if h == nil {
		return
	}
	if !Hashes(l.Algorithm) {
		c.bad("loadBalancer.hash", "only RingHash and Maglev hash", "set algorithm to one of them")
	}
	given := 0
	if h.Header != "" {
		given++
		if !tokenPattern.MatchString(h.Header) {
			c.bad("loadBalancer.hash.header", fmt.Sprintf("%q is not the name of a header", h.Header), "write one like X-User")
		}
	}
	if h.Cookie != nil {
		given++
		if !tokenPattern.MatchString(h.Cookie.Name) {
			c.bad("loadBalancer.hash.cookie.name", fmt.Sprintf("%q is not the name of a cookie", h.Cookie.Name), "write one like session")
		}
		c.duration("loadBalancer.hash.cookie.ttl", h.Cookie.TTL, time.Second, 10*longest, true)
		if p := h.Cookie.Path; p != "" && (!strings.HasPrefix(p, "/") || !Printable(p) || strings.Contains(p, ";") || len(p) > 1024) {
			c.bad("loadBalancer.hash.cookie.path", fmt.Sprintf("%q is not a path", p), "begin it with a slash, without spaces and semicolons")
		}
	}
	if h.Source != nil {
		given++
	}
	if given != 1 {
		c.bad("loadBalancer.hash", fmt.Sprintf("it has %d keys", given), "give exactly one of header, cookie and source")
	}
}

// Hashes reports whether an algorithm chooses an endpoint by a hash of the request.
func Hashes(a v1alpha1.LoadBalancerAlgorithm) bool {
	return a == v1alpha1.RingHash || a == v1alpha1.Maglev
}

func checkLocality(c *Checker, s *settings) {
	c.oneOf("locality", string(s.Locality), "", string(v1alpha1.PreferZone), string(v1alpha1.StrictLocality), string(v1alpha1.NoLocality))
}

// LoadBalancer says how an endpoint of a cluster is chosen.
type LoadBalancer struct {
	Algorithm v1alpha1.LoadBalancerAlgorithm
	// SlowStart is how long a new endpoint's part grows, 0 for not at all. Only RoundRobin and LeastRequest have it.
	SlowStart time.Duration
}

// LoadBalancer returns how an endpoint is chosen.
func (s *Settings) LoadBalancer() LoadBalancer {
	out := LoadBalancer{Algorithm: v1alpha1.LeastRequest}
	if l := s.Stated.LoadBalancer; l != nil {
		if l.Algorithm != "" {
			out.Algorithm = l.Algorithm
		}
		if l.SlowStart != nil {
			out.SlowStart = l.SlowStart.Duration
		}
	}
	return out
}

// Hash returns what RingHash and Maglev hash of a request, a nil value where no policy says so.
func (s *Settings) Hash() Setting[*v1alpha1.HashKey] {
	var out Setting[*v1alpha1.HashKey]
	if l := s.Stated.LoadBalancer; l != nil && l.Hash != nil {
		out.state(l.Hash, s.origin("loadBalancer.hash"))
	}
	return out
}

// Locality returns how callers prefer endpoints of their own availability zone.
func (s *Settings) Locality() v1alpha1.LocalityMode {
	if s.Stated.Locality == "" {
		return v1alpha1.PreferZone
	}
	return s.Stated.Locality
}

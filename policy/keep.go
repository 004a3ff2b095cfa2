package policy

import "slices"

// A freeze keeps shares, and a failed certificate leaves the last good one in
// force. The caller that builds a model passes in the former values.

// HoldShares gives the TCP ports the shares that they had: these are in
// endpoints, which a freeze lets through. It reports whether that makes a difference.
func (s *Service) HoldShares(was *Service) (held bool) {
	if was == nil {
		return false
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		j := slices.IndexFunc(was.Ports, func(old Port) bool { return old.Number == p.Number && old.Protocol == p.Protocol })
		if p.Protocol != TCP || j < 0 || slices.Equal(was.Ports[j].Shares, p.Shares) ||
			!slices.EqualFunc(was.Ports[j].Backings, p.Backings, func(a, b Backing) bool { return a.Platform == b.Platform }) {
			continue
		}
		p.Shares, held = was.Ports[j].Shares, true
	}
	return held
}

// Certificates are certificates of a Gateway by their names.
type Certificates map[string]Certificate

// KeepCertificates replaces failed certificates by the last good ones, and returns those that are good now. A
// certificate that was never good stays as it is: the compiler leaves it out, and closes the names of a listener
// without another one.
func (g *Gateway) KeepCertificates(had Certificates) Certificates {
	good := make(Certificates)
	for i := range g.Certificates {
		c := &g.Certificates[i]
		if c.Failed != "" {
			old := had[c.Name]
			c.Chain, c.Key = old.Chain, old.Key
		}
		if len(c.Key) > 0 {
			good[c.Name] = *c
		}
	}
	return good
}

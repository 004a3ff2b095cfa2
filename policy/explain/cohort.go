package explain

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// Cohort is the group of requests that move together while traffic is shifted,
// and the side of this request's user.
type Cohort struct {
	// Shift is the TrafficShift, as "namespace/name".
	Shift string `json:"shift"`
	// Key tells users apart: "cookie causeway" or "header x-user"; "" where every request is on its own.
	Key string `json:"key,omitempty"`
	// Value of the key in the request, "" for none.
	Value string `json:"value,omitempty"`
	// Position of the user in ShareTotal, absent where it is drawn at random or counts within a backend alone.
	Position *uint32 `json:"position,omitempty"`
	// Backend and Platform that the position falls to: "Service web/php:80" and "pods" or "instances".
	Backend  string `json:"backend,omitempty"`
	Platform string `json:"platform,omitempty"`
	// Because says how it was found.
	Because string `json:"because"`
}

// requestID is the header with the id that every request has.
const requestID = "x-request-id"

// cookieSafe matches the request ids that the mesh turns into a cookie.
var cookieSafe = regexp.MustCompile(`^[0-9A-Za-z_-]{16,}$`)

// shiftOf returns the first shift of a rule's backends, nil for none, and the
// cohort by which the rule tells users apart, nil for none.
func shiftOf(r *policy.Rule) (shift *policy.Shift, cohort *policy.Cohort) {
	for i := range r.Backends {
		s := r.Backends[i].Shift
		if s != nil && shift == nil {
			shift = s
		}
		if s != nil && cohort == nil {
			cohort = s.Cohort
		}
	}
	return shift, cohort
}

// copied returns the shadow of a rule's requests, nil for none: a rule with
// several backends copies nothing, because a proxy copies all of its requests.
func (e *evaluation) copied(r *policy.Rule) *policy.Shadow {
	if len(r.Backends) != 1 || r.Backends[0].Shift == nil || r.Backends[0].Shift.Shadow == nil {
		return nil
	}
	if s := r.Backends[0].Shift.Shadow; slices.Contains(s.Methods, e.req.Method) {
		return s
	}
	return nil
}

// cohort says which side of a shift the request is on.
func (e *evaluation) cohort(r *policy.Rule) {
	shift, key := shiftOf(r)
	if shift == nil {
		return
	}
	out := &Cohort{Shift: shift.Object.Key.String()}
	e.out.Cohort = out
	if key == nil {
		out.Because = "the TrafficShift has no cohort, so each request is on its own"
		return
	}
	out.Key = key.String()
	values := e.keyValues(key)
	out.Value = strings.Join(values, ", ")
	switch {
	case len(values) > 0:
		out.Because = "its hash is the user's place for as long as the shift lasts"
	case !e.getsCookie(r):
		out.Because = fmt.Sprintf("the request has no %s, so it is on its own", key)
		return
	default:
		out.Because = fmt.Sprintf("the request has no %s: the answer sets it to the request's id, whose hash decides for this request too", key)
		if id := e.req.header(requestID); id != "" {
			out.Value, values = id, []string{id}
		}
	}
	if len(values) == 0 {
		return
	}
	if !r.OnePath() {
		out.Because = "the rule's backends want different paths, so proxies draw one for each request; the hash decides which side of it"
		return
	}
	at := position(values)
	out.Position = &at
	for i := range e.out.Backends {
		b := &e.out.Backends[i]
		for j := range b.Targets {
			if t := &b.Targets[j]; t.Interval.Begin <= at && at < t.Interval.End {
				out.Backend, out.Platform = fmt.Sprintf("%s %s:%d", b.Kind, b.Name, b.Port), t.Platform
			}
		}
	}
}

// keyValues returns what stands in the request for the key of a cohort.
func (e *evaluation) keyValues(c *policy.Cohort) []string {
	if c.Cookie == "" {
		return e.req.values(c.Header)
	}
	if v := cookie(e.req.values("cookie"), c.Cookie); v != "" {
		return []string{v}
	}
	return nil
}

// cookie returns the value of the first cookie of a name, without the quotes
// that it may stand in.
func cookie(lines []string, name string) string {
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			n, v, ok := strings.Cut(strings.TrimLeft(pair, " "), "=")
			if !ok || n != name {
				continue
			}
			if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			return v
		}
	}
	return ""
}

// getsCookie reports whether the mesh gives the request its own cookie.
func (e *evaluation) getsCookie(r *policy.Rule) bool {
	_, c := shiftOf(r)
	if c == nil || c.Cookie == "" || c.TTL <= 0 || hasCookie(e.req.values("cookie"), c.Cookie) {
		return false
	}
	// The cookie is made of the id as the proxy has received it, so a rule
	// that changes the header leaves nothing to make it of.
	if edits(&r.Filters.Request, requestID) || slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return edits(&b.Filters.Request, requestID) }) {
		return false
	}
	id := e.req.header(requestID) // without one the proxy makes one
	if id == "" {
		return !e.early
	}
	return cookieSafe.MatchString(id)
}

// hasCookie reports whether a cookie of a name has a value. If a request has
// several, only the first tells users apart; if that one is empty, the user has
// no cohort.
func hasCookie(lines []string, name string) bool {
	for _, line := range lines {
		for pair := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ';' || r == ',' }) {
			if n, v, ok := strings.Cut(strings.TrimLeft(pair, " "), "="); ok && n == name && v != "" {
				return true
			}
		}
	}
	return false
}

func edits(h *policy.HeaderEdits, name string) bool {
	same := func(h policy.Header) bool { return strings.EqualFold(h.Name, name) }
	return slices.ContainsFunc(h.Set, same) || slices.ContainsFunc(h.Add, same) ||
		slices.ContainsFunc(h.Remove, func(s string) bool { return strings.EqualFold(s, name) })
}

// position returns where a key's values lie in ShareTotal: Envoy hashes them
// with xxHash64, each with the hash of the one before as its seed, in sorted
// order, and takes the remainder by the sum of the weights.
func position(values []string) uint32 {
	sorted := slices.Sorted(slices.Values(values))
	hash := uint64(0)
	for _, v := range sorted {
		d := xxhash.NewWithSeed(hash)
		_, _ = d.WriteString(v) // never fails
		hash = d.Sum64()
	}
	return uint32(hash % policy.ShareTotal)
}

// shadow adds the copies of a shift's shadow step to the mirrors.
func (e *evaluation) shadow(rule *policy.Rule) {
	s := e.copied(rule)
	if s == nil {
		return
	}
	b := &rule.Backends[0]
	name := naming.Shadow(b.Key, b.Port, s.To)
	e.out.Mirrors = append(e.out.Mirrors, Mirror{
		Backend: Backend{
			Kind: discovery.KindService, Name: b.Key.String(), Port: b.Port, Percent: 100, Forwarded: e.message(),
			Targets: []Target{{Platform: s.To.String(), Percent: 100, Cluster: name}},
			Note:    "its answers are compared with those that callers get",
		},
		Percent: percentOf(s.Share),
	})
	e.out.Envoy.Clusters = append(e.out.Envoy.Clusters, name)
}

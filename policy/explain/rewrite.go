package explain

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
)

// editPath returns a path, with its query string, as an edit makes it. match
// is what matched it. Only a prefix match has a prefix to replace.
func editPath(path string, edit *policy.PathEdit, match *policy.PathMatch) string {
	if edit == nil {
		return path
	}
	path, query, hasQuery := strings.Cut(path, "?")
	switch {
	case !edit.Prefix:
		path = edit.Value
	case match.Kind == policy.PathPrefix:
		// The slash at the end of either prefix says nothing (spec of HTTPPathModifier).
		rest := strings.TrimPrefix(path, strings.TrimSuffix(match.Value, "/"))
		path = strings.TrimSuffix(edit.Value, "/") + rest
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if hasQuery {
		path += "?" + query
	}
	return path
}

// Apply returns headers as the edits make them: what is removed goes first,
// then each Set takes the place of all of its name, and each Add makes one more.
func (edits *HeaderEdits) Apply(in []Header) []Header {
	out := slices.Clone(in)
	drop := func(name string) {
		kept := out[:0]
		for _, h := range out {
			if !strings.EqualFold(h.Name, name) {
				kept = append(kept, h)
			}
		}
		out = kept
	}
	for _, name := range edits.Remove {
		drop(name)
	}
	for _, h := range edits.Set {
		drop(h.Name)
		out = append(out, h)
	}
	return append(out, edits.Add...)
}

// rewrite returns a request as filters make it.
func rewrite(m Message, f *policy.Filters, match *policy.PathMatch) Message {
	if f.Host != "" {
		m.Host = f.Host
	}
	m.Path = editPath(m.Path, f.Path, match)
	edits := editsOf(&f.Request)
	m.Headers = edits.Apply(m.Headers)
	return m
}

// scheme returns that of the URL that a request is for: of the one in the request line if that
// has it whole, or of the field :scheme of HTTP/2, else what those in front say of it, else what the connection speaks.
func (e *evaluation) scheme() string {
	proto := e.req.header("x-forwarded-proto")
	switch {
	case e.req.HTTP2: // clients say there what they speak
		return schemeOf(e.secure)
	case e.req.Absolute:
		return schemeOf(false)
	case proto == schemeOf(false) || proto == schemeOf(true):
		return proto
	}
	return schemeOf(e.secure)
}

// redirect returns the answer of a redirecting rule of a port (spec of
// HTTPRequestRedirectFilter). A port that the scheme implies is left out if the
// proxy can: it cannot where the port replaces the request's own.
func (e *evaluation) redirect(rule *policy.Rule, port uint16) (status int, location string) {
	r := rule.Filters.Redirect
	scheme := cmp.Or(r.Scheme, e.scheme())
	host, own := e.req.Host, ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, own = host[:i], host[i:]
	}
	// The port that the scheme of the connection implies goes with it.
	asked := cmp.Or(e.req.header("x-forwarded-proto"), schemeOf(e.secure))
	if asked == "http" && scheme != asked && own == ":80" || asked == "https" && scheme != asked && own == ":443" {
		own = ""
	}
	wellKnown := map[string]uint16{"http": 80, "https": 443}
	implied, unusual := wellKnown[cmp.Or(r.Scheme, schemeOf(e.secure))], port != wellKnown[schemeOf(e.secure)]
	kept := r.Host == "" && unusual // the request's own port has to go
	switch {
	case r.Port != 0 && (r.Port != implied || kept):
		own = ":" + strconv.Itoa(int(r.Port))
	case r.Host != "" && r.Scheme == "" && r.Port == 0 && unusual:
		own = ":" + strconv.Itoa(int(port))
	case r.Host != "":
		own = ""
	case kept && r.Scheme != "" && implied != 0:
		own = ":" + strconv.Itoa(int(implied))
	}
	if r.Host != "" {
		host = r.Host
	}
	return int(r.Status), scheme + "://" + host + own + editPath(e.req.Path, r.Path, &rule.Match.Path)
}
